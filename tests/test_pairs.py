"""Pairs: from the lines of a file to batches that a model is trained on."""

import math

import numpy as np
import pytest

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.text.pairs import (
    PairCorpus,
    are_pairs,
    encode_pairs,
    load_pairs,
    parse_pairs,
    to_json_lines,
)
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.training.dataset import (
    continuation_training_dataset,
    continuation_validation_dataset,
    pairs_training_dataset,
    pairs_validation_dataset,
)

PAIRS = [("you", "thou"), ("your hat", "thy hat"), ("é\\t", '"ye"')]
BATCH_SIZE, SEQ_LEN = 5, 7


def test_which_files_hold_pairs():
    assert are_pairs(["a.tsv", "b/c.JSONL.gz"])
    assert not are_pairs([]) and not are_pairs(["tsv", "b.txt"])
    with pytest.raises(InputError, match=r"got a\.tsv and b\.txt: give one kind only"):
        are_pairs(["b.txt", "a.tsv"])


def test_loads_both_formats(tmp_path):
    (tmp_path / "b.tsv").write_text("you\tthou\r\n\nyour hat\tthy hat\n", encoding="utf-8-sig")
    (tmp_path / "a.tsv").write_text("he\the")
    (tmp_path / "c.jsonl").write_text(to_json_lines(PAIRS), encoding="utf-8")
    assert load_pairs([str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")]) == [
        ("he", "he"),
        *PAIRS[:2],
    ]
    assert load_pairs([str(tmp_path / "c.jsonl")]) == PAIRS


@pytest.mark.parametrize(
    "name, line",
    [
        ("a.tsv", "you"),
        ("a.tsv", "you\t"),
        ("a.tsv", "\tthou"),
        ("a.tsv", "you\tthou\tye"),
        ("a.jsonl", '{"source": "you"}'),
        ("a.jsonl", '{"source": "you", "target": 1}'),
        ("a.jsonl", '{"source": "you", "target": ""}'),
        ("a.jsonl", '["you", "thou"]'),
        ("a.jsonl", '{"source": "you", "target": "thou"'),
        ("a.jsonl", "3"),
        ("a.jsonl", "[" * 100_000),
    ],
)
def test_a_line_that_is_no_pair(name, line):
    good = "a\tb\n" if name == "a.tsv" else '{"source": "a", "target": "b"}\n'
    with pytest.raises(InputError, match=f"{name}, line 4: expected .* got '"):
        parse_pairs(f"{good}\n{good}{line}\n{good}", name)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.characters_of("abcdefghijk").with_end_token()  # <unk> is 11, the end 12


def test_end_token(tokenizer):
    assert (tokenizer.vocab_size, tokenizer.unk_token_id, tokenizer.end_token_id) == (13, 11, 12)
    assert tokenizer.encode("abk").tolist() == [0, 1, 10]
    assert tokenizer.with_end_token().to_json() == tokenizer.to_json()
    assert Tokenizer.from_json(tokenizer.to_json()).end_token_id == 12
    assert Tokenizer.characters_of("abc").end_token_id is None


def test_encodes_with_an_end(tokenizer):
    pairs = encode_pairs([("abc", "d"), ("e", "fg")], tokenizer, 4)
    assert pairs.source_ids.tolist() == [[0, 1, 2, 12], [4, 12, 0, 0]]
    assert pairs.source_lens.tolist() == [4, 2]
    assert pairs.target_ids.tolist() == [[3, 12, 0], [5, 6, 12]]
    assert pairs.target_lens.tolist() == [2, 3]
    with pytest.raises(InputError, match="a source has 4 tokens with its end, at most 3 fit"):
        encode_pairs([("a", "d"), ("abc", "d")], tokenizer, 3)
    with pytest.raises(InputError, match="a target has 5 tokens .*'abcd'"):
        encode_pairs([("abc", "abcd")], tokenizer, 4)


def test_the_last_tenth_is_for_validation(tokenizer):
    pairs = [("abcdefghijk"[i % 11] * 3, "ab" if i < 27 else "abcd") for i in range(30)]
    corpus = PairCorpus(pairs)
    assert corpus.validation == pairs[27:]
    corpus = corpus.tokenize(tokenizer, ModelConfig(13, 11))
    assert (len(corpus.training), len(corpus.validation)) == (27, 3)
    assert corpus.sample_prompts == (pairs[27][0],)
    assert corpus.validation.tokens_per_char == 5 / 4
    assert corpus.validation.bits_per_char(math.log(2)) == pytest.approx(5 / 4)
    assert corpus.validation.unknown_share == 0
    unknown = encode_pairs([("a", "azb"), ("b", "a")], tokenizer, 11)
    assert unknown.unknown_share == 1 / 6
    # 6 tokens of one bit each, and "z" with its end, for 4 characters
    assert unknown.bits_per_char(math.log(2)) == pytest.approx((6 + 2 * 8) / 4)
    assert corpus.tokens_per_row == 3  # a, b and the end
    with pytest.raises(InputError, match="two pairs at least, got 1"):
        PairCorpus(pairs[:1])


def test_a_pair_that_is_too_long_is_named(tokenizer, tmp_path):
    (tmp_path / "a.tsv").write_text("a\tb\n")
    (tmp_path / "b.tsv").write_text("\na\tb\nabc\td\n" * 2)
    paths = [str(tmp_path / name) for name in ("a.tsv", "b.tsv")]
    corpus = PairCorpus(load_pairs(paths), paths)
    with pytest.raises(InputError, match="b.tsv, line 3: a source has 4 tokens"):
        corpus.tokenize(tokenizer, ModelConfig(13, 3))


@pytest.fixture(scope="module")
def pairs(tokenizer):
    """13 pairs, whose sources tell them apart."""
    letters = "abcdefghijk"
    texts = [(letters[i % 11] * (1 + i // 11), letters[: 1 + i % 4]) for i in range(13)]
    return encode_pairs(texts, tokenizer, 8)


def batches(dataset):
    return [
        ({name: x.numpy() for name, x in inputs.items()}, *(x.numpy() for x in rest))
        for inputs, *rest in dataset
    ]


def test_training_batches_of_pairs(pairs):
    seen = []
    for inputs, next_ids, weights in batches(pairs_training_dataset(pairs, BATCH_SIZE, 3, 13)):
        assert inputs["token_ids"].dtype == np.int32 and next_ids.shape == (BATCH_SIZE, 5)
        assert weights.mean() == pytest.approx(1, abs=1e-6)
        # The decoder takes in the end of the source, then the target.
        assert inputs["token_ids"][:, 0].tolist() == [12] * BATCH_SIZE
        np.testing.assert_array_equal(inputs["token_ids"][:, 1:], next_ids[:, :-1])
        for row, row_weights in zip(next_ids, weights):
            end = row.tolist().index(12)
            assert (row_weights[: end + 1] == weights.max()).all()
            assert not row_weights[end + 1 :].any()
        seen += [
            (int(row[0]), int(n)) for row, n in zip(inputs["source_ids"], inputs["source_lens"])
        ]
    epochs = [seen[i : i + 13] for i in range(0, 65, 13)]
    assert all(len(set(epoch)) == 13 for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 5


def assert_equal_batches(ours, expected):
    assert len(ours) == len(expected) > 0
    for (inputs, *rest), (expected_inputs, *expected_rest) in zip(ours, expected):
        assert inputs.keys() == expected_inputs.keys()
        for x, y in zip([*inputs.values(), *rest], [*expected_inputs.values(), *expected_rest]):
            np.testing.assert_array_equal(x, y)


def test_a_batch_is_a_function_of_the_step(pairs):
    settings = BATCH_SIZE, 3, 13
    whole = batches(pairs_training_dataset(pairs, *settings))
    assert_equal_batches(batches(pairs_training_dataset(pairs, *settings, first_step=6)), whole[6:])
    text = np.arange(101)
    whole = batches(continuation_training_dataset(text, SEQ_LEN, *settings))
    resumed = batches(continuation_training_dataset(text, SEQ_LEN, *settings, first_step=6))
    assert_equal_batches(resumed, whole[6:])


def test_validation_of_pairs_counts_every_token_once(pairs):
    inputs, next_ids, weights = batches(pairs_validation_dataset(pairs, batch_size=16))[0]
    np.testing.assert_array_equal(inputs["source_ids"][:13], pairs.source_ids)
    np.testing.assert_array_equal(next_ids[:13], pairs.target_ids)
    counted = np.arange(5) < pairs.target_lens[:, None]
    np.testing.assert_array_equal(weights[:13] > 0, counted)
    assert not weights[13:].any() and weights.mean() == pytest.approx(1)
    assert len(set(weights[weights > 0])) == 1


def test_a_source_ends_where_its_target_begins():
    """Of a text whose token ids are the places where they stand."""
    lens = []
    data = batches(continuation_training_dataset(np.arange(101), SEQ_LEN, BATCH_SIZE, 3, 40))
    for inputs, next_ids in data:
        token_ids = inputs["token_ids"]
        np.testing.assert_array_equal(token_ids, token_ids[:, :1] + np.arange(SEQ_LEN))
        np.testing.assert_array_equal(next_ids, token_ids + 1)
        for row, length, first in zip(inputs["source_ids"], inputs["source_lens"], token_ids[:, 0]):
            assert row[:length].tolist() == list(range(first - length + 1, first + 1))
        lens += inputs["source_lens"].tolist()
    assert set(lens) == set(range(1, SEQ_LEN + 1))
    assert 0.7 < lens.count(SEQ_LEN) / len(lens) < 0.9  # 3 of 4, and a seventh of the others


def test_validation_of_continuations_sees_every_token_once():
    data = batches(continuation_validation_dataset(np.arange(101), SEQ_LEN, batch_size=4))
    seen = []
    for inputs, next_ids, weights in data:
        assert (inputs["source_lens"] == SEQ_LEN).all()
        last = inputs["token_ids"][:, :1]
        np.testing.assert_array_equal(inputs["source_ids"], last + np.arange(1 - SEQ_LEN, 1))
        seen += next_ids[weights > 0].tolist()
    assert seen == list(range(8, 8 + len(seen))) and len(seen) == 91
    assert np.mean([weights for _, _, weights in data]) == pytest.approx(1)
