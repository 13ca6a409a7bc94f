"""Attention, to itself or to another sequence: for training, decoding with a cache, and export."""

import keras
import numpy as np
from keras import ops

from neo_keras.model.lora import adapted
from neo_keras.model.weights import INITIALIZER_STDDEV, dense

MASKED = -1e9  # added to the score of a key that the query must not see; finite, so no NaN


def causal_mask(query_positions, key_positions):
    """Lets position p see the keys 0 .. p.

    Args:
        query_positions, key_positions: int32 [query_len], int32 [key_len].

    Returns:
        float32 [1, 1, query_len, key_len], to be added to scores: 0 or `MASKED`.
    """
    visible = ops.expand_dims(key_positions, 0) <= ops.expand_dims(query_positions, 1)
    return ops.expand_dims(ops.where(visible, 0.0, MASKED), (0, 1))


def length_mask(lengths, key_len):
    """Lets a position see the first keys of its sequence: `lengths`, int32 [batch_size].

    Returns:
        float32 [batch_size, 1, 1, key_len], to be added to scores: 0 or `MASKED`.
    """
    visible = ops.arange(key_len, dtype="int32") < ops.expand_dims(lengths, 1)
    return ops.expand_dims(ops.where(visible, 0.0, MASKED), (1, 2))


def window_mask(query_positions, key_positions, window):
    """Hides from position p the keys before p - window + 1; as `causal_mask`, to be added to it."""
    distances = ops.expand_dims(query_positions, 1) - ops.expand_dims(key_positions, 0)
    return ops.expand_dims(ops.where(distances < window, 0.0, MASKED), (0, 1))


def segment_mask(segment_ids):
    """Hides from each token those of other texts in its row; to be added to `causal_mask`.

    Args:
        segment_ids: int32 [batch_size, seq_len], a number for each text.

    Returns:
        float32 [batch_size, 1, seq_len, seq_len]: 0 or `MASKED`.
    """
    return ops.expand_dims(ops.where(_same_segment(segment_ids), 0.0, MASKED), 1)


def segment_positions(segment_ids):
    """How far each token is from the first one of its text: int32 [batch_size, seq_len]."""
    positions = ops.arange(ops.shape(segment_ids)[1], dtype="int32")
    own = ops.where(_same_segment(segment_ids), positions, ops.shape(segment_ids)[1])
    return positions - ops.min(own, axis=2)


def _same_segment(segment_ids):
    return ops.expand_dims(segment_ids, 2) == ops.expand_dims(segment_ids, 1)


def rotary_tables(max_seq_len, head_dim, base=10000.0, rotary_dim=None):
    """Cosines and sines of rotary position embedding: float32 [max_seq_len, 2, head_dim / 2].

    With a `rotary_dim`, the pairs after its half are left as they are.

    Source: Su et al. 2021, arXiv:2104.09864.
    """
    rotary_dim = rotary_dim or head_dim
    angles = _angles(max_seq_len, rotary_dim, base)
    angles = np.pad(angles, ((0, 0), (0, (head_dim - rotary_dim) // 2)))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")


def sinusoidal_table(max_seq_len, hidden_dim):
    """Sine, cosine, sine, ... of position * frequency: float32 [max_seq_len, hidden_dim].

    Source: Vaswani et al. 2017, section 3.5.
    """
    angles = _angles(max_seq_len, hidden_dim)
    table = np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(max_seq_len, -1)
    return table[:, :hidden_dim].astype("float32")  # of an odd width, the last has no cosine


def _angles(max_seq_len, dim, base=10000.0):
    frequencies = base ** -(np.arange(0, dim, 2) / dim)
    return np.arange(max_seq_len)[:, None] * frequencies  # [max_seq_len, dim / 2]


def rotate(x, rotation):
    """Turns each pair (i, i + head_dim / 2) of a head by its position's angle.

    Args:
        x: [batch_size, num_heads, seq_len, head_dim].
        rotation: rows of `rotary_tables`, [seq_len, 2, head_dim / 2]; or, where the sequences of a
            batch differ, [batch_size, 1, seq_len, 2, head_dim / 2].
    """
    cos, sin = ops.unstack(ops.cast(rotation, x.dtype), axis=-2)  # [..., seq_len, head_dim / 2]
    first, second = ops.split(x, 2, axis=-1)
    return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


@keras.saving.register_keras_serializable("neo_keras")
class Attention(keras.layers.Layer):
    """Multi-head attention (Vaswani et al. 2017), with grouped key-value heads.

    Args:
        num_heads: query heads.
        head_dim: of each.
        num_kv_heads: key and value heads; divides `num_heads`. With fewer of them, neighbouring
            query heads share one (Ainslie et al. 2023, arXiv:2305.13245), which shrinks the cache.
        qk_norm: scale queries and keys to root-mean-square 1 (Henry et al. 2020,
            arXiv:2010.04245), which keeps scores bounded at high learning rates.
        qk_norm_scale: then scale them by learned numbers, one for each place of a head.
        norm_epsilon: of that norm.
        output_stddev: of the initial output projection.
        cross: keys and values come from another sequence, which `keys_values` reads once.
    """

    def __init__(
        self, num_heads, num_kv_heads, head_dim, use_bias=False, qkv_bias=False, qk_norm=False,
        qk_norm_scale=False, norm_epsilon=1e-6, output_stddev=INITIALIZER_STDDEV, cross=False,
        **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.use_bias = use_bias
        self.qkv_bias = qkv_bias
        self.qk_norm = qk_norm
        self.qk_norm_scale = qk_norm_scale
        self.norm_epsilon = norm_epsilon
        self.output_stddev = output_stddev
        self.cross = cross

    def build(self, input_shape):
        hidden_dim, dtype = input_shape[-1], self.dtype_policy

        def projection(num_heads, name):
            units = num_heads * self.head_dim
            layer = dense(units, name, dtype, use_bias=self.qkv_bias)
            layer.build(input_shape)
            return layer

        # One matrix product for all that comes from one sequence: fewer, larger operations.
        if self.cross:
            self.query = projection(self.num_heads, "query")
            self.key_value = projection(2 * self.num_kv_heads, "key_value")
        else:
            self.qkv = projection(self.num_heads + 2 * self.num_kv_heads, "qkv")
        if self.qk_norm_scale:
            self.query_scale, self.key_scale = (
                self.add_weight((self.head_dim,), "ones", name=name)
                for name in ("query_scale", "key_scale")
            )
        self.output_projection = dense(
            hidden_dim, "output", dtype, self.output_stddev, self.use_bias
        )
        self.output_projection.build((None, None, self.num_heads * self.head_dim))

    def call(self, x, attention_mask, rotation=None, cache=None, start=0):
        """Attends from each position of x to the keys that the mask lets it see.

        Args:
            x: [batch_size, seq_len, hidden_dim].
            attention_mask: as `causal_mask` or `length_mask` returns it.
            rotation: of x's positions, as `rotate` takes it, or None.
            cache: (keys, values), each [batch_size, num_kv_heads, key_len, head_dim], in which new
                ones are written at `start`; None: there are no others. Of cross-attention: what
                `keys_values` returned.
            start: int32 scalar, the slot of x's first position.

        Returns:
            (x, cache). Keys are kept scaled by head_dim**-0.5.
        """
        if self.cross:
            queries = self._split_heads(self.query(x))
            queries = self._normalize(queries, self.num_heads, rotation)
            keys, values = cache
        else:
            queries, keys, values = self._project(x, rotation)
            if cache is not None:
                keys = ops.slice_update(cache[0], (0, 0, start, 0), keys)
                values = ops.slice_update(cache[1], (0, 0, start, 0), values)
        x = self._attend(queries, keys, values, attention_mask)
        return adapted(self, "output", x, self.output_projection(x)), (keys, values)

    def keys_values(self, source, rotation=None):
        """Reads the other sequence, [batch_size, key_len, hidden_dim]: the cache for `call`."""
        keys, values = ops.split(self._split_heads(self.key_value(source)), 2, axis=1)
        return self._normalize(keys, 0, rotation) * self.head_dim**-0.5, values

    def _project(self, x, rotation):
        x = self._split_heads(adapted(self, "qkv", x, self.qkv(x)))
        queries_keys, values = ops.split(x, [self.num_heads + self.num_kv_heads], axis=1)
        queries_keys = self._normalize(queries_keys, self.num_heads, rotation)
        queries, keys = ops.split(queries_keys, [self.num_heads], axis=1)
        # The keys are scaled, not the queries: a sum of matmul(scaled queries, keys) and a mask is
        # what TensorFlow rewrites, outside of XLA, into a oneDNN kernel hundreds of times slower.
        return queries, keys * self.head_dim**-0.5, values

    def _split_heads(self, x):
        x = ops.reshape(x, (-1, ops.shape(x)[1], x.shape[-1] // self.head_dim, self.head_dim))
        return ops.transpose(x, (0, 2, 1, 3))  # [batch_size, heads, seq_len, head_dim]

    def _normalize(self, queries_keys, num_queries, rotation):
        """What is scored, of which the first `num_queries` heads are queries and the rest keys."""
        if self.qk_norm:
            epsilon = self.norm_epsilon
            queries_keys = ops.rms_normalization(queries_keys, axis=-1, epsilon=epsilon)
        if self.qk_norm_scale:
            num_keys = queries_keys.shape[1] - num_queries
            scales = (self.query_scale, num_queries), (self.key_scale, num_keys)
            scales = [ops.broadcast_to(scale, (n, 1, self.head_dim)) for scale, n in scales]
            queries_keys = queries_keys * ops.concatenate(scales, axis=0)
        return queries_keys if rotation is None else rotate(queries_keys, rotation)

    def _attend(self, queries, keys, values, attention_mask):
        seq_len = ops.shape(queries)[2]
        group_size = self.num_heads // self.num_kv_heads
        if group_size > 1:
            # The queries that share a key head stand one after another along the sequence axis:
            # [batch_size, num_kv_heads, group_size * seq_len, head_dim].
            shape = (-1, self.num_kv_heads, group_size * seq_len, self.head_dim)
            queries = ops.reshape(queries, shape)
            if attention_mask.shape[2] != 1:
                attention_mask = ops.tile(attention_mask, (1, 1, group_size, 1))
        # For one row, a matrix product would first copy all keys, then all values, into the order
        # that its kernel likes: twice the time on a CPU.
        one_row = queries.shape[2] == 1
        if one_row:
            scores = ops.expand_dims(ops.sum(queries * keys, axis=-1), 2)
        else:
            scores = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2)))
        # The mask too: a layer that computes in bfloat16 casts its float arguments.
        scores = ops.cast(scores, "float32") + ops.cast(attention_mask, "float32")
        weights = ops.cast(ops.softmax(scores, axis=-1), values.dtype)
        if one_row:
            x = ops.sum(ops.transpose(weights, (0, 1, 3, 2)) * values, axis=2)
        else:
            x = ops.matmul(weights, values)
        x = ops.reshape(x, (-1, self.num_heads, seq_len, self.head_dim))
        x = ops.transpose(x, (0, 2, 1, 3))  # [batch_size, seq_len, num_heads, head_dim]
        return ops.reshape(x, (-1, seq_len, self.num_heads * self.head_dim))
