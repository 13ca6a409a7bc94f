"""Sums of gradients over the parts of a batch, where embeddings have rows of their own.

The gradient of an embedding is `tf.IndexedSlices`, a row for each look-up, and Keras' optimizers
square and clip these rows one by one, not their sum. So the rows of several parts of a batch are
joined, as they are in the whole batch, and all else is added.
"""

import keras
import tensorflow as tf


def split(gradients, variables):
    """Takes gradients apart, into what is added over the parts of a batch and what is joined.

    Two kinds of rows are there once for a batch: those of positions, and those that the output
    head adds, one for each token, if it shares the embedding.

    Args:
        gradients: list of tensors and `tf.IndexedSlices`, of all `variables` of a model.

    Returns:
        A list of one or two parts for each: tensors, to be added; `tf.IndexedSlices`, to be joined.
    """
    is_tied = not any(variable.path.endswith("/reverse_embeddings") for variable in variables)
    return [_split(*pair, is_tied) for pair in zip(gradients, variables)]


def _split(gradient, variable, is_tied):
    if not isinstance(gradient, tf.IndexedSlices):
        # Among several workers TensorFlow does not know how many rows there are, nor what follows.
        return [tf.ensure_shape(gradient, variable.shape)]
    if "position_embedding" in variable.path:
        return [tf.convert_to_tensor(gradient)]
    if is_tied and "token_embedding" in variable.path:
        vocab_size = variable.shape[0]  # the head's rows are the first: it is last in the model
        values, indices = gradient.values, gradient.indices
        lookups = tf.IndexedSlices(values[vocab_size:], indices[vocab_size:], gradient.dense_shape)
        return [values[:vocab_size], lookups]
    return [gradient]


def join(parts):
    """Makes gradients of what `split` made of them."""
    return [_join(*of_one) for of_one in parts]


def _join(first, lookups=None):
    if lookups is None:
        return first
    indices = tf.range(tf.shape(first)[0], dtype=lookups.indices.dtype)
    return tf.IndexedSlices(
        tf.concat([first, lookups.values], axis=0),
        tf.concat([indices, lookups.indices], axis=0),
        lookups.dense_shape,
    )


def add(outputs):
    """Of structures that are alike: tensors added, the rows of `tf.IndexedSlices` joined."""
    sums = [_sum(values) for values in zip(*map(tf.nest.flatten, outputs))]
    return tf.nest.pack_sequence_as(outputs[0], sums)


def _sum(values):
    if not isinstance(values[0], tf.IndexedSlices):
        return tf.add_n(values)
    return tf.IndexedSlices(
        tf.concat([rows.values for rows in values], axis=0),
        tf.concat([rows.indices for rows in values], axis=0),
        values[0].dense_shape,
    )


def accumulate(function, micro_batches):
    """As `add`, of what a function gives for each micro-batch, one after another.

    Args:
        function: gives a structure of tensors and `tf.IndexedSlices`.
        micro_batches: structure of tensors, its arguments, stacked on the first axis.
    """
    num_steps = keras.tree.flatten(micro_batches)[0].shape[0]
    specs = keras.tree.map_structure(
        lambda rows: tf.TensorSpec(rows.shape[1:], rows.dtype), micro_batches
    )
    # Traced before the loop, which must know what it sums.
    function = tf.function(function, autograph=False).get_concrete_function(specs)
    outputs = tf.nest.flatten(function.structured_outputs)

    def step(i, sums):
        one = function(keras.tree.map_structure(lambda rows: rows[i], micro_batches))
        return i + 1, [_added(*pair, i) for pair in zip(sums, tf.nest.flatten(one))]

    _, sums = tf.while_loop(
        lambda i, _: i < num_steps,
        step,
        (0, [_nothing_yet(output, num_steps) for output in outputs]),
        parallel_iterations=1,  # memory for one micro-batch at a time
    )
    sums = [_finished(*pair) for pair in zip(sums, outputs)]
    return tf.nest.pack_sequence_as(function.structured_outputs, sums)


def _nothing_yet(output, num_steps):
    if not isinstance(output, tf.IndexedSlices):
        return tf.zeros(output.shape, output.dtype)
    return [
        tf.TensorArray(part.dtype, num_steps, element_shape=part.shape)
        for part in (output.values, output.indices)
    ]


def _added(total, output, i):
    if not isinstance(output, tf.IndexedSlices):
        return total + output
    values, indices = total
    return [values.write(i, output.values), indices.write(i, output.indices)]


def _finished(total, output):
    if not isinstance(output, tf.IndexedSlices):
        return total
    values, indices = (array.concat() for array in total)
    return tf.IndexedSlices(values, indices, tf.constant(output.shape.as_list()))
