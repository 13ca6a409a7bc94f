"""tf.data pipelines: a training batch is a pure function of (seed, step)."""

import numpy as np
import tensorflow as tf

from neo_keras.training.windows import count_training_windows, count_validation_windows


def training_dataset(token_ids, seq_len, batch_size, seed, steps, first_step=0):
    """Batches `first_step` .. `steps - 1` of a run, each the same however the run got there.

    An epoch cuts the text into non-overlapping windows and visits every one once, in an order of
    its own. Each epoch shifts the cuts by an offset of its own, so that no token always stands at
    the start of a window.

    Args:
        token_ids: int array [num_tokens].
        seq_len: tokens in a window.
        batch_size: windows in a batch.
        seed: of the order and the offsets.
        steps: the number of batches of the whole run.
        first_step: where to begin.

    Returns:
        A `tf.data.Dataset` of (token_ids, next_token_ids), both int32 [batch_size, seq_len].

    Raises:
        InputError: the text is shorter than one window.
    """
    num_windows = count_training_windows(len(token_ids), seq_len)
    token_ids = tf.constant(token_ids, tf.int32)

    def batch(step):
        window = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        epoch, window = window // num_windows, window % num_windows
        # By epoch, window by window: a batch may hold the last ones of one and the first of the
        # next. The offsets are a permutation too.
        offset = _shuffle(epoch % seq_len, tf.stack([seed, 0, 0]), seq_len)
        seeds = tf.stack([tf.fill([batch_size], tf.cast(seed, tf.int64)), epoch, epoch], axis=1)
        start = offset + _shuffle(window, seeds, num_windows) * seq_len
        rows = tf.gather(token_ids, start[:, None] + tf.range(seq_len + 1, dtype=tf.int64))
        return rows[:, :-1], rows[:, 1:]

    dataset = tf.data.Dataset.range(first_step, steps).map(batch)
    return dataset.prefetch(16).with_options(_options())


def validation_dataset(token_ids, seq_len, batch_size=64, sliding=False):
    """Every full, non-overlapping window once, in order; or windows that overlap by half.

    The last batch is padded with rows of weight 0, so that XLA compiles one shape. The weights of
    the real rows make up for it: `model.evaluate` gives the exact mean over all tokens.

    Args:
        token_ids: int array [num_tokens].
        seq_len: tokens in a window.
        batch_size: windows in a batch.
        sliding: a window begins at every half of a window, and only its second half counts (of
            the first window, all), so that every token is predicted from at least half a context.

    Returns:
        A `tf.data.Dataset` of (token_ids, next_token_ids, weights): int32 [batch_size, seq_len]
        twice and float32, the same shape.

    Raises:
        InputError: the text is shorter than one window.
    """
    stride = seq_len // 2 if sliding else seq_len
    num_windows = count_validation_windows(len(token_ids), seq_len, stride)
    num_rows = -(-num_windows // batch_size) * batch_size
    rows = np.minimum(np.arange(num_rows), num_windows - 1)[:, None] * stride + np.arange(seq_len)
    weights = np.zeros((num_rows, seq_len), "float32")
    weights[0] = 1
    weights[:num_windows, seq_len - stride :] = 1
    weights /= weights.mean()
    token_ids = np.asarray(token_ids, "int32")
    data = (token_ids[rows], token_ids[rows + 1], weights)
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(batch_size, drop_remainder=True)
    return dataset.prefetch(4).with_options(_options())


def _shuffle(index, seed, size):
    """Where a permutation of 0 .. size - 1 moves each index; a seed, or one for each index."""
    # The public index_shuffle takes no vector of seeds.
    seed, max_index = tf.cast(seed, tf.int64), tf.constant(size - 1, tf.int64)
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=seed, max_index=max_index, rounds=4)


def _options():
    options = tf.data.Options()
    # The autotuner sleeps for up to a minute at a time, and the end of `fit` waits for it.
    options.autotune.enabled = False
    options.deterministic = True
    return options
