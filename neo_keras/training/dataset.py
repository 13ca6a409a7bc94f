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
        # Window by window: a batch may hold the last ones of an epoch and the first of the next.
        start = tf.map_fn(_window_start, (epoch, window), fn_output_signature=tf.int64)
        rows = tf.gather(token_ids, start[:, None] + tf.range(seq_len + 1, dtype=tf.int64))
        return rows[:, :-1], rows[:, 1:]

    def _window_start(epoch_and_window):
        epoch, window = epoch_and_window
        epoch_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        offset = tf.random.stateless_uniform([], epoch_seed, 0, seq_len, tf.int64)
        shuffled = tf.random.experimental.index_shuffle(window, epoch_seed, num_windows - 1)
        return offset + shuffled * seq_len

    dataset = tf.data.Dataset.range(first_step, steps).map(batch)
    return dataset.prefetch(16).with_options(_options())


def validation_dataset(token_ids, seq_len, batch_size=64):
    """Every full, non-overlapping window once, in order.

    The last batch is padded with rows of weight 0, so that XLA compiles one shape. The weights of
    the real rows make up for it: `model.evaluate` gives the exact mean over all windows.

    Args:
        token_ids: int array [num_tokens].
        seq_len: tokens in a window.
        batch_size: windows in a batch.

    Returns:
        A `tf.data.Dataset` of (token_ids, next_token_ids, weights): int32 [batch_size, seq_len]
        twice and float32 [batch_size, 1].

    Raises:
        InputError: the text is shorter than one window.
    """
    num_windows = count_validation_windows(len(token_ids), seq_len)
    num_rows = -(-num_windows // batch_size) * batch_size
    rows = np.minimum(np.arange(num_rows), num_windows - 1)[:, None] * seq_len + np.arange(seq_len)
    weights = np.where(np.arange(num_rows) < num_windows, num_rows / num_windows, 0)[:, None]
    token_ids = np.asarray(token_ids, "int32")
    data = (token_ids[rows], token_ids[rows + 1], weights.astype("float32"))
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(batch_size, drop_remainder=True)
    return dataset.prefetch(4).with_options(_options())


def _options():
    options = tf.data.Options()
    # The autotuner sleeps for up to a minute at a time, and the end of `fit` waits for it.
    options.autotune.enabled = False
    options.deterministic = True
    return options
