"""tf.data pipelines: a training batch is a pure function of (seed, step)."""

import functools

import numpy as np
import tensorflow as tf

from neo_keras.text.corpus import count_training_windows, count_validation_windows
from neo_keras.text.packing import PackedExamples

SHORT_SHARE = 4  # of the sources to continue, one in so many is short, as a prompt may be


def dataset_makers(model_config, corpus, config):
    """(training, validation): those of the functions below that suit a model, given the text."""
    parts = corpus.training, corpus.validation
    if isinstance(corpus.training, PackedExamples):
        training = functools.partial(packed_training_dataset, parts[0], config.document_mask)
        return training, functools.partial(packed_validation_dataset, parts[1])
    if model_config.end_token_id is not None:
        makers = pairs_training_dataset, pairs_validation_dataset
        return list(map(functools.partial, makers, parts))
    makers = training_dataset, validation_dataset
    if model_config.architecture == "encoder-decoder":
        makers = continuation_training_dataset, continuation_validation_dataset
    texts = [part.token_ids for part in parts]
    return list(map(functools.partial, makers, texts, [model_config.max_seq_len] * 2))


def training_dataset(token_ids, seq_len, batch_size, seed, steps, first_step=0):
    """Batches `first_step` .. `steps - 1` of a run, each the same however the run got there.

    An epoch cuts the text into non-overlapping windows, at an offset of its own, and visits every
    one once, in an order of its own. A batch that an epoch ends in goes on with the next epoch.

    Args:
        token_ids: int array [num_tokens], or `EncodedText.token_ids`, read window by window.

    Returns:
        A `tf.data.Dataset` of (token_ids, next_token_ids), both int32 [batch_size, seq_len]; or
        `InputError`, where the text is too short.
    """
    num_windows = count_training_windows(len(token_ids), seq_len)
    offsets = tf.constant(np.random.default_rng(seed).permutation(seq_len))

    def batch(step):
        epoch, window = _shuffled(_rows(step, batch_size), num_windows, seed)
        start = tf.gather(offsets, epoch % seq_len) + window * seq_len
        return _read_windows(token_ids, start, seq_len)

    return _pipeline(tf.data.Dataset.range(first_step, steps), batch)


def validation_dataset(token_ids, seq_len, batch_size=64, sliding=False):
    """Every full, non-overlapping window once, in order; or windows that overlap by half.

    The last batch is padded with rows of weight 0, so that XLA compiles one shape. The mean weight
    is 1, so that `model.evaluate` gives the exact mean over all tokens.

    Args:
        token_ids: as in `training_dataset`.
        sliding: a window begins at every half of a window, and only its second half counts (of
            the first window, all), so that every token is predicted from at least half a context.

    Returns:
        A `tf.data.Dataset` of (token_ids, next_token_ids, weights): int32, int32 and float32,
        each [batch_size, seq_len]; or `InputError`, where the text is too short.
    """
    stride = seq_len // 2 if sliding else seq_len
    num_windows = count_validation_windows(len(token_ids), seq_len, stride)
    num_batches = -(-num_windows // batch_size)
    num_counted = seq_len + (num_windows - 1) * stride
    weight = num_batches * batch_size * seq_len / num_counted

    def batch(i):
        row = _rows(i, batch_size)[:, None]
        place = tf.range(seq_len, dtype=tf.int64)
        counted = (row < num_windows) & ((row == 0) | (place >= seq_len - stride))
        start = tf.minimum(row[:, 0], num_windows - 1) * stride
        return *_read_windows(token_ids, start, seq_len), tf.where(counted, weight, 0.0)

    return _pipeline(tf.data.Dataset.range(num_batches), batch)


def continuation_training_dataset(token_ids, seq_len, batch_size, seed, steps, first_step=0):
    """As `training_dataset`, of windows of 2 * seq_len: a source, and the target that follows it.

    Returns:
        A `tf.data.Dataset` of (inputs, next_token_ids): as `EncoderDecoder.call` takes them, and
        int32 [batch_size, seq_len].
    """

    def cut(step, rows):
        shape, end = (2, batch_size), SHORT_SHARE * seq_len
        draws = tf.random.stateless_uniform(shape, (seed, step), 0, end, tf.int32)
        return _continuation(*rows, tf.where(draws[0] < seq_len, draws[1] % seq_len + 1, seq_len))

    windows = training_dataset(token_ids, 2 * seq_len, batch_size, seed, steps, first_step)
    return _pipeline(windows.enumerate(first_step), cut)


def continuation_validation_dataset(token_ids, seq_len, batch_size=64):
    """Every token of the text but the first seq_len, each once, with a full source before."""
    num_windows = count_validation_windows(len(token_ids), 2 * seq_len, stride=seq_len)
    weight = -(-num_windows // batch_size) * batch_size / num_windows  # as in `validation_dataset`

    def cut(window, next_ids, weights):
        source_lens = tf.fill([batch_size], seq_len)
        weights = tf.where(weights[:, seq_len:] > 0, weight, 0.0)
        return *_continuation(window, next_ids, source_lens), weights

    return _pipeline(validation_dataset(token_ids, 2 * seq_len, batch_size, sliding=True), cut)


def _continuation(window, next_ids, source_lens):
    """(inputs, next_token_ids): the last tokens of a window's first half, and its second half."""
    seq_len = window.shape[1] // 2
    # The source ends with the first token that the decoder takes in.
    places = seq_len - source_lens[:, None] + 1 + tf.range(seq_len)
    inputs = {
        "source_ids": tf.gather(window, tf.minimum(places, seq_len), batch_dims=1),
        "source_lens": source_lens,
        "token_ids": window[:, seq_len:],
    }
    return inputs, next_ids[:, seq_len:]


def pairs_training_dataset(pairs, batch_size, seed, steps, first_step=0):
    """Batches of `EncodedPairs`; an epoch visits each once, in an order of its own.

    Returns:
        A `tf.data.Dataset` of (inputs, next_token_ids, weights): as `EncoderDecoder.call` takes
        them; int32 and float32, both [batch_size, longest target]. Padding has weight 0.
    """
    data = _teacher_forced(pairs)

    def batch(step):
        _, rows = _shuffled(_rows(step, batch_size), len(pairs), seed)
        inputs, next_ids, weights = _take(data, rows)
        return inputs, next_ids, weights / tf.reduce_mean(weights)

    return _pipeline(tf.data.Dataset.range(first_step, steps), batch)


def pairs_validation_dataset(pairs, batch_size=64):
    """Every pair once, in order, in batches as those of `pairs_training_dataset`."""
    data = _teacher_forced(pairs)
    num_batches = -(-len(pairs) // batch_size)
    scale = num_batches * batch_size / len(pairs) / tf.reduce_mean(data[-1])

    def batch(i):
        rows = _rows(i, batch_size)
        inputs, next_ids, weights = _take(data, tf.minimum(rows, len(pairs) - 1))
        return inputs, next_ids, tf.where(rows[:, None] < len(pairs), weights * scale, 0.0)

    return _pipeline(tf.data.Dataset.range(num_batches), batch)


def _teacher_forced(pairs):
    """(inputs, next_token_ids, weights): the decoder takes in the source's end, then the target."""
    last_ids = np.take_along_axis(pairs.source_ids, pairs.source_lens[:, None] - 1, axis=1)
    inputs = {
        "source_ids": pairs.source_ids,
        "source_lens": pairs.source_lens,
        "token_ids": np.concatenate([last_ids, pairs.target_ids[:, :-1]], axis=1),
    }
    counted = np.arange(pairs.target_ids.shape[1]) < pairs.target_lens[:, None]
    data = inputs, pairs.target_ids, counted.astype("float32")
    return tf.nest.map_structure(tf.constant, data)


def _take(data, rows):
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), data)


def packed_training_dataset(packed, document_mask, batch_size, seed, steps, first_step=0):
    """Batches of rows of `PackedExamples`; an epoch visits each once, in an order of its own.

    Args:
        document_mask: whether attention stays within an example.

    Returns:
        A `tf.data.Dataset` of (inputs, next_token_ids, weights): as `GPT.call` takes them; int32
        and float32, both [batch_size, seq_len]. Tokens that are not trained have weight 0.
    """

    def batch(step):
        _, rows = _shuffled(_rows(step, batch_size), len(packed), seed)
        inputs, next_ids, weights = _read_packed(packed, rows, document_mask)
        return inputs, next_ids, weights / tf.reduce_mean(weights)

    return _pipeline(tf.data.Dataset.range(first_step, steps), batch)


def packed_validation_dataset(packed, batch_size=64):
    """Every row once, in order; attention stays within each example, as when it is alone."""
    num_batches = -(-len(packed) // batch_size)
    num_places = packed.rows.shape[1] - 1
    weight = num_batches * batch_size * num_places / packed.num_tokens  # as `validation_dataset`

    def batch(i):
        rows = _rows(i, batch_size)
        data = _read_packed(packed, tf.minimum(rows, len(packed) - 1), document_mask=True)
        inputs, next_ids, weights = data
        return inputs, next_ids, tf.where(rows[:, None] < len(packed), weights * weight, 0.0)

    return _pipeline(tf.data.Dataset.range(num_batches), batch)


def _read_packed(packed, rows, document_mask):
    """(inputs, next_token_ids, weights) of rows, int64 [num_rows]; the weights are 0 or 1."""
    arrays = packed.rows, packed.weights, packed.segments
    dtypes = tf.int32, tf.float32, tf.int32

    def read(rows):
        return [array[rows].astype(t.as_numpy_dtype) for array, t in zip(arrays, dtypes)]

    # Tensors would be a copy of all rows in memory.
    data = tf.numpy_function(read, [rows], dtypes, stateful=False)
    shape = rows.shape[0], packed.rows.shape[1]
    token_ids, weights, segment_ids = (tf.ensure_shape(tensor, shape) for tensor in data)
    inputs = token_ids[:, :-1]
    if document_mask:
        inputs = {"token_ids": inputs, "segment_ids": segment_ids[:, :-1]}
    return inputs, token_ids[:, 1:], weights[:, 1:]


def share_of(dataset, i, n, num_parts):
    """The i-th of n equal shares of every batch, in batches of a num_parts-th of a batch."""
    batch_size = tf.nest.flatten(dataset.element_spec)[0].shape[0]
    shares = dataset.rebatch(batch_size // n, drop_remainder=True).shard(n, i)
    return shares.rebatch(batch_size // num_parts, drop_remainder=True)


def _rows(step, batch_size):
    """Of a batch, counted through all batches: int64 [batch_size]."""
    return step * batch_size + tf.range(batch_size, dtype=tf.int64)


def _shuffled(row, num_rows, seed):
    """(epoch, row in an order of that epoch) of rows that are counted through all epochs."""
    epoch, row = row // num_rows, row % num_rows
    # Alike seeds, and large ones, would give permutations that resemble each other: mix them.
    seed_words = np.random.SeedSequence(seed).generate_state(2).astype("int64")
    words = tf.tile(seed_words[None], [row.shape[0], 1])
    seeds = tf.concat([words, epoch[:, None]], axis=1)
    last = tf.constant(num_rows - 1, tf.int64)
    # The public index_shuffle takes one seed only. Its 4 rounds leave epochs alike.
    row = tf.raw_ops.RandomIndexShuffle(index=row, seed=seeds, max_index=last, rounds=8)
    return epoch, row


def _read_windows(token_ids, start, seq_len):
    """(token_ids, next_token_ids) of the windows that begin at `start`, int64 [num_rows]."""

    def read(start):
        return np.stack([token_ids[i : i + seq_len + 1] for i in start]).astype("int32")

    # A tensor would be a copy of all tokens in memory.
    rows = tf.numpy_function(read, [start], tf.int32, stateful=False)
    rows = tf.ensure_shape(rows, (start.shape[0], seq_len + 1))
    return rows[:, :-1], rows[:, 1:]


def _pipeline(dataset, function):
    options = tf.data.Options()
    # The autotuner sleeps for up to a minute at a time, and the end of `fit` waits for it.
    options.autotune.enabled = False
    options.deterministic = True
    return dataset.map(function).prefetch(16).with_options(options)
