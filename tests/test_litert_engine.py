"""The cache of a `.tflite` file's engine grows with the text, and nobody sees it grow."""

import numpy as np
import pytest

from neo_keras.generation.compiled_model_runner import next_capacity
from neo_keras.generation.flatbuffer import keep_first_signatures, read_signatures
from neo_keras.generation.load import load_engine

pytest_plugins = ["export_fixtures"]

IN_PLACE = ("decode_in_place", "prefill_in_place")
TOKEN_IDS = np.random.default_rng(5).integers(12, size=97)


@pytest.mark.parametrize(
    ("capacity", "needed", "limit", "expected"),
    [
        (0, 1, 1024, 64),
        (0, 64, 1024, 64),
        (0, 65, 1024, 128),
        (64, 65, 1024, 128),
        (192, 193, 1024, 256),
        (256, 257, 1024, 320),
        (512, 513, 1024, 640),  # a quarter more
        (960, 961, 1024, 1024),
        (64, 65, 97, 97),
        (0, 3, 7, 7),
    ],
)
def test_next_capacity(capacity, needed, limit, expected):
    assert next_capacity(capacity, needed, limit) == expected


@pytest.fixture(scope="module")
def engine(int8_tflite):
    return load_engine(int8_tflite)[0]


def decode_all(engine, num_prefilled):
    """Logits from there to the end of the context."""
    engine.reset()
    engine.prefill(TOKEN_IDS[:num_prefilled])
    return np.array([engine.decode(token_id) for token_id in TOKEN_IDS[num_prefilled:]])


def test_growing_changes_nothing(engine):
    grown = decode_all(engine, 0)  # 64 slots, then 97
    engine.reset()
    engine._runner._grow(97)
    at_once = [engine.decode(token_id) for token_id in TOKEN_IDS]
    # A sum over more slots, of which the new ones weigh nothing, may round otherwise, and in int8
    # an activation next to the middle of two steps may then round to the other.
    np.testing.assert_allclose(at_once, grown, atol=0.05)
    # Nothing is left of the text before, nor of its cache's size.
    assert np.array_equal(decode_all(engine, 0), grown)


@pytest.mark.parametrize("num_prefilled", [1, 63, 64, 65, 96])
def test_growing_in_prefill(engine, num_prefilled):
    expected = decode_all(engine, 0)[num_prefilled:]
    np.testing.assert_allclose(decode_all(engine, num_prefilled), expected, atol=0.05)


def test_signatures_are_read_and_hidden(int8_tflite):
    content = int8_tflite.read_bytes()
    signatures = read_signatures(content)
    assert tuple(signatures) == (*IN_PLACE, "reset", "prefill", "decode", "sample", "generate")
    assert signatures["prefill"] == {
        "inputs": {"tokens": [1, 64], "input_pos": [64]}, "outputs": {"input_pos": [64]}
    }  # fmt: skip
    kept = keep_first_signatures(content, 2)
    assert tuple(read_signatures(kept)) == IN_PLACE
    differences = np.frombuffer(kept, "uint8") != np.frombuffer(content, "uint8")
    assert differences.sum() == 2  # two lengths, of one byte
