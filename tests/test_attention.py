"""Attention against an independent implementation: loops, float64, complex rotations."""

import numpy as np
import pytest
from conftest import randomize
from tolerances import assert_close

from neo_keras.model.attention import Attention, causal_mask, rotary_tables, rotate

BATCH_SIZE, SEQ_LEN, HEAD_DIM = 2, 11, 14

SHAPES = {
    "multi-head": dict(num_heads=5, num_kv_heads=5),
    "grouped": dict(num_heads=15, num_kv_heads=3),
    "multi-query": dict(num_heads=5, num_kv_heads=1),
}


def make_attention(num_heads, **kwargs):
    layer = Attention(num_heads, head_dim=HEAD_DIM, **kwargs)
    layer.build((None, None, num_heads * HEAD_DIM))
    randomize(layer, seed=3)
    return layer


def make_inputs(num_heads, seed=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(BATCH_SIZE, SEQ_LEN, num_heads * HEAD_DIM)).astype("float32")


def forward(layer, x, use_rope=False):
    positions = np.arange(x.shape[1], dtype="int32")
    rotation = rotary_tables(x.shape[1], HEAD_DIM) if use_rope else None
    y, (keys, values) = layer(x, causal_mask(positions, positions), rotation=rotation)
    return np.array(y), np.array(keys), np.array(values)


def reference_rotate(vector, position):
    """Pairs (i, i + half) are complex numbers, turned by position / 10000^(i / half) radians."""
    half = len(vector) // 2
    turned = vector[:half] + 1j * vector[half:]
    turned = turned * np.exp(1j * position * 10000.0 ** (-np.arange(half) / half))
    return np.concatenate([turned.real, turned.imag])


def reference_attention(layer, x, num_heads, num_kv_heads, qk_norm, use_rope):
    """One query of one head of one sequence at a time."""
    x = x.astype("float64")
    dense = {w.path.split("/", 1)[1]: np.array(w, "float64") for w in layer.weights}
    num_columns = (num_heads + 2 * num_kv_heads) * HEAD_DIM
    projected = x @ dense["qkv/kernel"] + dense.get("qkv/bias", np.zeros(num_columns))

    def vector(batch, position, head):
        return projected[batch, position, head * HEAD_DIM : (head + 1) * HEAD_DIM]

    def query_or_key(*where):
        v = vector(*where)
        if qk_norm:
            v = v / np.sqrt(np.mean(v**2) + 1e-6)
        return reference_rotate(v, where[1]) if use_rope else v

    y = np.zeros_like(x)
    for batch, position, head in np.ndindex(len(x), x.shape[1], num_heads):
        kv_head = head // (num_heads // num_kv_heads)
        seen = range(position + 1)
        query = query_or_key(batch, position, head)
        keys = [query_or_key(batch, p, num_heads + kv_head) for p in seen]
        values = [vector(batch, p, num_heads + num_kv_heads + kv_head) for p in seen]
        scores = np.array([query @ key for key in keys]) / np.sqrt(HEAD_DIM)
        weights = np.exp(scores) / np.exp(scores).sum()
        y[batch, position, head * HEAD_DIM : (head + 1) * HEAD_DIM] = weights @ np.array(values)
    return y @ dense["output/kernel"] + dense.get("output/bias", 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "use_bias, qk_norm, use_rope",
    [(False, False, False), (True, False, False), (False, True, False), (False, False, True),
     (True, True, True)],
)  # fmt: skip
def test_agrees_with_the_reference(shape, use_bias, qk_norm, use_rope):
    shape = SHAPES[shape]
    layer = make_attention(**shape, use_bias=use_bias, qk_norm=qk_norm)
    x = make_inputs(shape["num_heads"])
    y, keys, values = forward(layer, x, use_rope)
    expected = reference_attention(layer, x, **shape, qk_norm=qk_norm, use_rope=use_rope)
    assert_close(y, expected, additions=210 + HEAD_DIM + SEQ_LEN + 210)
    assert keys.shape == values.shape == (BATCH_SIZE, shape["num_kv_heads"], SEQ_LEN, HEAD_DIM)


@pytest.mark.parametrize("shape", SHAPES)
def test_later_tokens_do_not_change_a_bit_of_earlier_outputs(shape):
    shape = SHAPES[shape]
    layer = make_attention(**shape, qk_norm=True)
    x = make_inputs(shape["num_heads"])
    changed = x.copy()
    changed[:, 7:] = 100 * make_inputs(shape["num_heads"], seed=6)[:, 7:]
    before, after = forward(layer, x, True)[0], forward(layer, changed, True)[0]
    np.testing.assert_array_equal(after[:, :7], before[:, :7])
    assert np.all(np.abs(after[:, 7:] - before[:, 7:]).max(axis=-1) > 1e-3)


def test_first_position_sees_itself_alone():
    layer = make_attention(5, num_kv_heads=5)
    x = make_inputs(5)
    y, _, values = forward(layer, x)
    own = values[:, :, 0].reshape(BATCH_SIZE, -1)
    assert_close(y[:, 0], own @ np.array(layer.output_projection.kernel), additions=70)


def draw(mask):
    """One string per query: "." where it sees the key."""
    mask = np.array(mask)
    assert mask.dtype == np.float32 and mask.shape[:2] == (1, 1)
    assert set(mask.ravel()) <= {0.0, np.float32(-1e9)}
    return ["".join(".-"[int(hidden)] for hidden in row) for row in mask[0, 0] < 0]


def mask_of(queries, keys):
    return causal_mask(np.array(queries, "int32"), np.array(keys, "int32"))


def test_causal_mask():
    assert draw(mask_of([0, 1, 2], [0, 1, 2])) == [
        ".--",
        "..-",
        "...",
    ]
    assert draw(mask_of([1, 2], [0, 1, 2, 3, 4])) == [
        "..---",
        "...--",
    ]
    assert draw(mask_of([4], [0, 1, 2, 3, 4])) == ["....."]


def test_rotate_by_hand():
    # Position 2, frequencies 1 and 10000^(-1/2) = 0.01; pairs (1, 3) and (2, 4).
    x = np.array([1.0, 2.0, 3.0, 4.0], "float32").reshape(1, 1, 1, 4)
    turned = np.array(rotate(x, rotary_tables(3, 4)[2:]))
    # cos 2 = -0.416147, sin 2 = 0.909297; cos 0.02 = 0.999800, sin 0.02 = 0.019999
    expected = [-3.144039, 1.919605, -0.339143, 4.039197]
    assert_close(turned.ravel(), expected, additions=4)


def test_rotary_tables():
    tables = rotary_tables(3, 4)
    assert tables.shape == (3, 2, 2) and tables.dtype == np.float32
    np.testing.assert_array_equal(tables[0], [[1, 1], [0, 0]])  # position 0: no turn
    np.testing.assert_allclose(tables[1], [[0.540302, 0.999950], [0.841471, 0.010000]], atol=1e-6)


def test_scores_depend_on_the_distance_alone():
    rng = np.random.default_rng(2)
    query, key = rng.normal(size=(2, 1, 3, 1, HEAD_DIM)).astype("float32")
    tables = rotary_tables(101, HEAD_DIM)

    def scores(query_position, key_position):
        q = np.array(rotate(query, tables[query_position : query_position + 1]))
        k = np.array(rotate(key, tables[key_position : key_position + 1]))
        return (q * k).sum(axis=-1)

    np.testing.assert_allclose(scores(100, 93), scores(7, 0), atol=1e-4)
    np.testing.assert_allclose(scores(0, 7), scores(50, 57), atol=1e-4)
    assert np.abs(scores(7, 0) - scores(0, 7)).max() > 0.1
    assert np.abs(scores(7, 0) - scores(8, 0)).max() > 0.1
