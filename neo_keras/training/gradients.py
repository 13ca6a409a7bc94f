"""What of a gradient adds up over the parts of a batch, where embeddings have rows of their own."""

import tensorflow as tf


def split(gradients, variables):
    """Takes gradients apart, into what is added over the parts of a batch and what is joined.

    That of an embedding is `tf.IndexedSlices`, a row for each look-up, and Keras' optimizers square
    and clip these rows one by one, not their sum. So the rows of several parts of a batch must be
    joined, as they are in the whole batch. But two kinds are there once for a batch: the rows
    of positions, and what the output head adds, one row for each token, if it shares the embedding.

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
