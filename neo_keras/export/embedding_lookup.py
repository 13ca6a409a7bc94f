"""Embedding tables in exported files: looked up by an operator whose table can be quantized."""

from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from keras import ops


def lookup_operators(scale_rows):
    """Within it, Keras's embedding layers convert to EMBEDDING_LOOKUP.

    They would become GATHER, whose table the quantizer leaves in float32. With `scale_rows` a table
    is stored by `split_scales`. So one scale for all of it quantizes each row as well as a scale of
    its own would, which costs 12 bytes a row and signature. Not the token embedding: its rows are
    few, and the output layer may share them.
    """

    def call(layer, token_ids):
        row_ids = ops.reshape(token_ids, (-1,))
        if scale_rows and not isinstance(layer, keras.layers.ReversibleEmbedding):
            with tf.init_scope():  # out of the graph that is being traced
                rows, scales = split_scales(ops.convert_to_numpy(layer.embeddings))
            x = _look_up(tf.constant(rows), row_ids) * _look_up(tf.constant(scales), row_ids)
        else:
            x = _look_up(ops.convert_to_tensor(layer.embeddings), row_ids)
        return ops.reshape(x, (*token_ids.shape, layer.output_dim))

    return mock.patch.object(keras.layers.Embedding, "call", call)


def split_scales(table):
    """Writes a table as (rows between -1 and 1, a scale for each), whose product it is.

    All float32: [num_rows, width], of which the scales are [num_rows, 1]. Scales are whole
    multiples of a 127th of the largest: an int8 holds them exactly.
    """
    largest = np.abs(table).max(axis=1, keepdims=True).astype("float64")
    step = (largest.max() or 1.0) / 127  # the largest int8
    # Rounded up, but not where a rounding error alone asks for it.
    scales = (np.maximum(np.ceil(largest / step - 1e-6), 1) * step).astype("float32")
    return table / scales, scales


# By this name the converter knows what becomes EMBEDDING_LOOKUP.
@tf.function(experimental_implements="embedding_matmul", autograph=False)
def _look_up(table, row_ids):
    return tf.gather(table, row_ids)
