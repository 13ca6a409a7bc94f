"""tf.data pipelines for an encoder-decoder: here, too, a batch is a function of (seed, step)."""

import numpy as np
import tensorflow as tf

from neo_keras.training.dataset import (
    WHOLE,
    dataset_options,
    places_of,
    shuffled_rows,
    training_dataset,
    validation_dataset,
)

SHORT_SHARE = 4  # of the sources to continue, one in so many is short, as a prompt may be


def continuation_training_dataset(
    token_ids, seq_len, batch_size, seed, steps, first_step=0, share=WHOLE
):
    """Windows of a text, cut in two: the first half is the source, the second the target.

    Args:
        as `training_dataset`; seq_len is of a half.

    Returns:
        A `tf.data.Dataset` of (inputs, next_token_ids): as `EncoderDecoder.call` takes them, and
        int32 [batch_size / n, seq_len].
    """

    def cut(step, rows):
        window, next_ids = rows
        draws = tf.random.stateless_uniform(
            (2, batch_size), (seed, step), 0, SHORT_SHARE * seq_len, tf.int32
        )
        draws = tf.gather(draws, places_of(share, batch_size), axis=1)
        source_lens = tf.where(draws[0] < seq_len, draws[1] % seq_len + 1, seq_len)
        # The last tokens of the first half, which ends where the target begins.
        places = seq_len - source_lens[:, None] + 1 + tf.range(seq_len)
        source_ids = tf.gather(window, tf.minimum(places, seq_len), batch_dims=1)
        inputs = {
            "source_ids": source_ids,
            "source_lens": source_lens,
            "token_ids": window[:, seq_len:],
        }
        return inputs, next_ids[:, seq_len:]

    windows = training_dataset(token_ids, 2 * seq_len, batch_size, seed, steps, first_step, share)
    return windows.enumerate(first_step).map(cut).prefetch(16).with_options(dataset_options())


def continuation_validation_dataset(token_ids, seq_len, batch_size=64, share=WHOLE):
    """Every token of the text but the first ones, each once, with a full source before its window.

    They are the tokens that `validation_dataset` counts with `sliding` and twice the `seq_len`,
    after its first half window: so the two losses compare.

    Args:
        as `validation_dataset`; seq_len is of a half.

    Returns:
        A `tf.data.Dataset` of (inputs, next_token_ids, weights).
    """

    def cut(window, next_ids, weights):
        inputs = {
            "source_ids": window[:, 1 : seq_len + 1],
            "source_lens": tf.fill(tf.shape(window)[:1], seq_len),
            "token_ids": window[:, seq_len:],
        }
        return inputs, next_ids[:, seq_len:], weights[:, seq_len:] * scale

    windows = validation_dataset(token_ids, 2 * seq_len, batch_size, sliding=True)
    weights = np.concatenate([w[:, seq_len:] for _, _, w in windows.as_numpy_iterator()])
    scale = 1 / weights.mean()  # the first half of the first window counted there
    windows = validation_dataset(token_ids, 2 * seq_len, batch_size, sliding=True, share=share)
    return windows.map(cut).prefetch(4).with_options(dataset_options())


def pairs_training_dataset(pairs, batch_size, seed, steps, first_step=0, share=WHOLE):
    """Batches of pairs; an epoch visits each once, in an order of its own.

    Args:
        pairs: `EncodedPairs`.
        batch_size, seed, steps, first_step, share: as `training_dataset`.

    Returns:
        A `tf.data.Dataset` of (inputs, next_token_ids, weights): as `EncoderDecoder.call` takes
        them; int32 and float32, both [batch_size / n, longest target]. Padding has weight 0,
        and a batch's mean is over the others.
    """
    inputs, next_ids, weights = _teacher_forced(pairs)
    arrays = {**inputs, "next_ids": next_ids, "weights": weights}
    tensors = {name: tf.constant(array) for name, array in arrays.items()}

    def batch(step):
        _, rows = shuffled_rows(step, batch_size, len(pairs), seed)
        scale = 1 / tf.reduce_mean(tf.gather(tensors["weights"], rows))  # of the whole batch
        rows = tf.gather(rows, places_of(share, batch_size))
        taken = {name: tf.gather(tensor, rows) for name, tensor in tensors.items()}
        next_ids, weights = taken.pop("next_ids"), taken.pop("weights")
        return taken, next_ids, weights * scale

    dataset = tf.data.Dataset.range(first_step, steps).map(batch)
    return dataset.prefetch(16).with_options(dataset_options())


def pairs_validation_dataset(pairs, batch_size=64, share=WHOLE):
    """Every pair once, in order; `model.evaluate` gives the exact mean over all their tokens.

    Args:
        pairs: `EncodedPairs`.
        batch_size: pairs in a batch; the last one is filled up with pairs of weight 0.
        share: as in `training_dataset`.

    Returns:
        As `pairs_training_dataset`.
    """
    num_rows = -(-len(pairs) // batch_size) * batch_size
    rows = np.minimum(np.arange(num_rows), len(pairs) - 1)
    inputs, next_ids, weights = _teacher_forced(pairs.part(rows))
    weights[len(pairs) :] = 0
    i, n = share
    places = np.arange(num_rows).reshape(-1, n, batch_size // n)[:, i]
    data = (inputs, next_ids, weights / weights.mean())
    dataset = tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(lambda a: a[places], data))
    return dataset.prefetch(4).with_options(dataset_options())


def _teacher_forced(pairs):
    """(inputs, next_token_ids, weights): the decoder takes in the source's end, then the target."""
    last_ids = np.take_along_axis(pairs.source_ids, pairs.source_lens[:, None] - 1, axis=1)
    inputs = {
        "source_ids": pairs.source_ids,
        "source_lens": pairs.source_lens,
        "token_ids": np.concatenate([last_ids, pairs.target_ids[:, :-1]], axis=1),
    }
    places = np.arange(pairs.target_ids.shape[1])
    return inputs, pairs.target_ids, (places < pairs.target_lens[:, None]).astype("float32")
