"""tf.data pipelines: a training batch is a pure function of (seed, step)."""

import numpy as np
import tensorflow as tf

from neo_keras.text.corpus import count_training_windows, count_validation_windows

WHOLE = (0, 1)  # the share of a batch that a single worker makes


def training_dataset(token_ids, seq_len, batch_size, seed, steps, first_step=0, share=WHOLE):
    """Batches `first_step` .. `steps - 1` of a run, each the same however the run got there.

    An epoch cuts the text into non-overlapping windows and visits every one once, in an order of
    its own. Each epoch shifts the cuts by an offset of its own, so that no token always stands at
    the start of a window. Batches are always full: one that an epoch ends in goes on with the first
    windows of the next, which are not visited again there. So the last batch of a run of E epochs
    may hold up to batch_size - 1 windows of epoch E + 1.

    Args:
        token_ids: int array [num_tokens], or `EncodedText.token_ids`, which may be larger than
            memory: it is read window by window.
        seq_len: tokens in a window.
        batch_size: windows in a batch.
        seed: of the order and the offsets.
        steps: the number of batches of the whole run.
        first_step: where to begin.
        share: (i, n): make the i-th of n equal shares of every batch, i from 0.

    Returns:
        A `tf.data.Dataset` of (token_ids, next_token_ids), both int32 [batch_size / n, seq_len].

    Raises:
        InputError: the text is shorter than one window.
    """
    num_windows = count_training_windows(len(token_ids), seq_len)
    offsets = tf.constant(np.random.default_rng(seed).permutation(seq_len))

    def batch(step):
        epoch, window = shuffled_rows(step, batch_size, num_windows, seed, share)
        start = tf.gather(offsets, epoch % seq_len) + window * seq_len
        return _read_windows(token_ids, start, seq_len)

    dataset = tf.data.Dataset.range(first_step, steps).map(batch)
    return dataset.prefetch(16).with_options(dataset_options())


def validation_dataset(token_ids, seq_len, batch_size=64, sliding=False, share=WHOLE):
    """Every full, non-overlapping window once, in order; or windows that overlap by half.

    The last batch is padded with rows of weight 0, so that XLA compiles one shape. The weights of
    the real rows make up for it: `model.evaluate` gives the exact mean over all tokens.

    Args:
        token_ids: as for `training_dataset`.
        seq_len: tokens in a window.
        batch_size: windows in a batch.
        sliding: a window begins at every half of a window, and only its second half counts (of
            the first window, all), so that every token is predicted from at least half a context.
        share: as in `training_dataset`.

    Returns:
        A `tf.data.Dataset` of (token_ids, next_token_ids, weights): int32 [batch_size /
        n, seq_len] twice and float32, the same shape.

    Raises:
        InputError: the text is shorter than one window.
    """
    stride = seq_len // 2 if sliding else seq_len
    num_windows = count_validation_windows(len(token_ids), seq_len, stride)
    num_batches = -(-num_windows // batch_size)
    num_counted = seq_len + (num_windows - 1) * stride
    weight = num_batches * batch_size * seq_len / num_counted  # so that the mean weight is 1

    def batch(i):
        row = (i * batch_size + places_of(share, batch_size))[:, None]
        place = tf.range(seq_len, dtype=tf.int64)
        counted = (row < num_windows) & ((row == 0) | (place >= seq_len - stride))
        start = tf.minimum(row[:, 0], num_windows - 1) * stride
        inputs, targets = _read_windows(token_ids, start, seq_len)
        return inputs, targets, tf.where(counted, weight, 0.0)

    dataset = tf.data.Dataset.range(num_batches).map(batch)
    return dataset.prefetch(4).with_options(dataset_options())


def places_of(share, batch_size):
    """Where in a batch the rows of a share are, int64 [batch_size / n]."""
    i, n = share
    return tf.range(i * batch_size // n, (i + 1) * batch_size // n, dtype=tf.int64)


def shuffled_rows(step, batch_size, num_rows, seed, share=WHOLE):
    """The rows of a batch, where each epoch visits every row once, in an order of its own.

    Args:
        step: int64 scalar.
        batch_size, num_rows, seed: int.
        share: as in `training_dataset`.

    Returns:
        (epoch, row): int64 [batch_size / n] each; a batch that an epoch ends in goes on with the
        next.
    """
    row = step * batch_size + places_of(share, batch_size)
    epoch, row = row // num_rows, row % num_rows
    # Alike seeds, and large ones, would give permutations that resemble each other: mix them.
    seed_words = np.random.SeedSequence(seed).generate_state(2).astype("int64")
    words = tf.tile(seed_words[None], [row.shape[0], 1])
    return epoch, _shuffle(row, tf.concat([words, epoch[:, None]], axis=1), num_rows)


def _read_windows(token_ids, start, seq_len):
    """(token_ids, next_token_ids) of the windows that begin at `start`, int64 [num_rows]."""

    def read(start):
        return np.stack([token_ids[i : i + seq_len + 1] for i in start]).astype("int32")

    # A tensor would be a copy of all tokens in memory.
    rows = tf.numpy_function(read, [start], tf.int32, stateful=False)
    rows = tf.ensure_shape(rows, (start.shape[0], seq_len + 1))
    return rows[:, :-1], rows[:, 1:]


def _shuffle(index, seeds, size):
    """Where permutations of 0 .. size - 1 move each index; seeds: int64 [num_indices, 3]."""
    # The public index_shuffle takes one seed only. Its 4 rounds leave epochs alike.
    max_index = tf.constant(size - 1, tf.int64)
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=seeds, max_index=max_index, rounds=8)


def dataset_options():
    """Of every pipeline here."""
    options = tf.data.Options()
    # The autotuner sleeps for up to a minute at a time, and the end of `fit` waits for it.
    options.autotune.enabled = False
    options.deterministic = True
    return options
