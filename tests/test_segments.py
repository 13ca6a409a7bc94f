"""Several texts in one row: each is computed as if it were alone."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from tolerances import assert_close

from neo_keras.config import ModelConfig
from neo_keras.model.attention import segment_positions

SHAPE = dict(vocab_size=13, max_seq_len=23, num_layers=2, num_heads=5, hidden_dim=70)
RECIPES = {
    "rope": dict(),
    "rope-window": dict(window=3),
    "grouped": dict(num_kv_heads=1, window=5),
    "learned": dict(position="learned", qk_norm=False, norm="layer"),
    "learned-window": dict(position="learned", window=3),
    "sinusoidal": dict(position="sinusoidal"),
}
LENGTHS = [[7, 3, 10, 2], [2, 19]]  # of the texts in each row; what is left is padding


@pytest.fixture(params=RECIPES)
def config(request):
    return ModelConfig(**SHAPE, **RECIPES[request.param])


def packed():
    """(token_ids, segment_ids), both int32 [2, 23]."""
    token_ids = np.random.default_rng(3).integers(0, 13, (2, 23)).astype("int32")
    segments = [np.repeat(np.arange(1, len(row) + 1), row) for row in LENGTHS]
    return token_ids, np.array([np.pad(row, (0, 23 - len(row))) for row in segments], "int32")


def pieces():
    """Yields (row, slice) of each text."""
    for row, lengths in enumerate(LENGTHS):
        stops = np.cumsum(lengths)
        yield from ((row, slice(stop - n, stop)) for n, stop in zip(lengths, stops))


def test_positions_begin_anew():
    _, segment_ids = packed()
    positions = ops.convert_to_numpy(segment_positions(segment_ids))
    expected = [[*range(7), *range(3), *range(10), 0, 1, 0], [0, 1, *range(19), 0, 1]]
    np.testing.assert_array_equal(positions, expected)


def test_a_text_in_a_row_is_as_alone(config, make_model):
    model = make_model(config)
    token_ids, segment_ids = packed()
    logits = np.array(model({"token_ids": token_ids, "segment_ids": segment_ids}))
    crossing = np.array(model(token_ids))
    assert np.isfinite(logits).all()
    additions = 2 * (70 + 23 + 280)
    for row, place in pieces():
        alone = np.array(model(token_ids[row : row + 1, place]))[0]
        assert_close(logits[row, place], alone, additions, np.abs(crossing).max())
        if place.start:  # without the mask it is not
            assert np.abs(crossing[row, place] - alone).max() > 0.01


def test_one_segment_is_a_plain_row(config, make_model):
    model = make_model(config)
    token_ids, _ = packed()
    logits = model({"token_ids": token_ids, "segment_ids": np.ones_like(token_ids)})
    np.testing.assert_array_equal(logits, model(token_ids))


@pytest.mark.parametrize("remat", [False, True])
def test_gradients_are_the_sum_of_those_alone(make_model, remat):
    import tensorflow as tf

    model = make_model(ModelConfig(**SHAPE, position="learned", window=3))
    model.remat = remat
    token_ids, segment_ids = packed()
    heads = np.random.default_rng(5).normal(size=(2, 23, 13)).astype("float32")

    @tf.function
    def gradients(inputs, heads):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs, training=True) * heads)
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_variables)]

    heads[segment_ids == 0] = 0
    together = gradients({"token_ids": token_ids, "segment_ids": segment_ids}, heads)
    apart = [gradients(token_ids[r : r + 1, p], heads[r : r + 1, p]) for r, p in pieces()]
    for actual, parts in zip(together, zip(*apart), strict=True):
        expected = np.sum([part.numpy() for part in parts], axis=0)
        assert_close(actual.numpy(), expected, 5000)


def test_a_checkpoint_takes_both_forms(make_model, tmp_path):
    model = make_model(ModelConfig(**SHAPE))
    token_ids, segment_ids = packed()
    inputs = {"token_ids": token_ids, "segment_ids": segment_ids}
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), expected)
    assert dataclasses.asdict(loaded.config) == dataclasses.asdict(model.config)
