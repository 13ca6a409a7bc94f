"""Examples in rows: each once, and none is lost."""

import numpy as np
from example_files import make_tokenizer

from neo_keras.text.packing import cut_into_rows, make_example, pack

TOKENIZER = make_tokenizer()


def test_long_documents_are_cut_and_no_token_is_lost():
    whole = make_example([(range(5, 5 + 24), True)])
    for seq_len in (2, 5, 7, 22, 23, 24, 40):
        parts = cut_into_rows(whole, seq_len)
        assert max(len(part.token_ids) for part in parts) <= seq_len + 1
        trained = [part.token_ids[part.weights > 0].tolist() for part in parts]
        assert sum(trained, []) == list(range(6, 29))
        before = [part.token_ids[:-1][part.weights[1:] > 0].tolist() for part in parts]
        assert sum(before, []) == list(range(5, 28))  # each is predicted from the one before it


def test_rows_hold_every_example_once():
    rng = np.random.default_rng(3)
    examples = [
        make_example([(rng.integers(0, 90, n), False), (rng.integers(0, 90, m), True)])
        for n, m in rng.integers(1, 12, (61, 2))
    ]
    packed = pack(examples, 22, TOKENIZER)
    assert packed.rows.shape == packed.weights.shape == packed.segments.shape
    assert packed.rows.shape[1] <= 23 and packed.rows.dtype == "int32"
    found = []
    for rows in zip(packed.rows, packed.weights, packed.segments):
        row, weights, segments = rows
        lengths = np.bincount(segments)[1:]
        assert (lengths > 0).all() and not weights[segments == 0].any()
        assert segments.tolist() == sorted(segments[segments > 0]) + [0] * (segments == 0).sum()
        starts = np.cumsum([0, *lengths])
        found += [(tuple(row[a:b]), tuple(weights[a:b])) for a, b in zip(starts, starts[1:])]
    expected = [(tuple(e.token_ids), tuple(e.weights)) for e in examples]
    assert sorted(found) == sorted(expected)
    assert packed.num_tokens == sum(e.weights.sum() for e in examples)
    num_rows, used = 1, 0  # one after another, in the order that they have
    for length in (len(example.token_ids) for example in examples):
        num_rows, used = (
            (num_rows, used + length) if used + length <= 23 else (num_rows + 1, length)
        )
    assert len(packed) < num_rows and packed.fill > 0.8
    assert sorted(packed.token_ids) == sorted(i for e in examples for i in e.token_ids)


def test_the_largest_number_of_segments():
    examples = [make_example([([1], False), ([2], True)])] * 300
    packed = pack(examples, 601, TOKENIZER)
    assert packed.segments.max() == 300 and len(packed) == 1
