"""Holds every exported file against the Keras model, in the runtime that the file is for."""

import dataclasses
import functools
import time

import numpy as np
from keras import ops

from neo_keras.errors import FailedError, InputError
from neo_keras.generation.sampler import GREEDY

NUM_WINDOWS = 16
MAX_LOGITS = 2**27  # of all windows: with a large vocabulary and context there are fewer windows
MAX_PREFIX = 64  # tokens of a window that prefill takes

# How far a right file may stray: the largest logit difference where the weights are floats, and the
# rise of the loss. A conversion that went wrong is off by far more: it about doubles the loss. The
# default model's rises by 0.02% in int8 and 0.4% in int4: other models may mind more. Of the loss
# of a model that knows its text by heart, a share would be less than what rounding does to it.
MAX_LOGIT_DIFFERENCE = {"float32": 1e-3, "float16": 1e-1}
USUAL_LOGIT = 5.0  # rounding grows with the logits: where they are larger, so is what is allowed
MAX_LOSS_RISE = {
    "float32": 0.01,
    "float16": 0.01,
    "int8": 0.02,
    "int8-weights": 0.02,
    "int4": 0.1,
    "int4-block32": 0.1,
}  # as a share
ALWAYS_ALLOWED_RISE = 0.01  # nats per token: a wrong file is off by a hundred times that


class VerificationError(FailedError):
    """An exported file does not compute what the Keras model computes."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """Windows of validation text, and what the Keras model says of them.

    Attributes:
        token_ids: int32 [num_windows, window_len + 1]; -1 where a source or a target is shorter
            than others.
        logits: float32 [num_windows, window_len, vocab_size].
        known: bool [vocab_size], false for a token that is never to be drawn.
        prefix_len: the loss counts from here on; what stands before is prefilled. With the next
            token it is the source of an encoder-decoder.
    """

    token_ids: np.ndarray
    logits: np.ndarray
    known: np.ndarray
    prefix_len: int


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one file does with the reference's windows.

    Attributes:
        max_logit_difference: from the Keras model.
        greedy_agreement: how often the likeliest token is the Keras model's, 0 .. 1.
        loss: nats per token, over the tokens that are known.
        tokens_per_second: of decoding, one token a call.
    """

    max_logit_difference: float
    greedy_agreement: float
    loss: float
    tokens_per_second: float


def make_reference(model, token_ids, unk_token_id):
    """Takes evenly spaced windows of a text, as long as the model's context.

    Args:
        model: `GPT`.
        token_ids: int array [num_tokens].
        unk_token_id: a token that is never to be drawn, or None.

    Returns:
        `Reference`.

    Raises:
        InputError: the text is all but empty, or unknown.
    """
    check_length(token_ids)
    window_len = min(model.config.max_seq_len, len(token_ids) - 1)
    windows = _evenly_spaced(model, token_ids, window_len + 1)
    logits = ops.convert_to_numpy(model(windows[:, :-1]))
    known = np.arange(model.config.vocab_size) != unk_token_id
    prefix_len = min(window_len // 2, MAX_PREFIX)
    if not known[windows[:, prefix_len + 1 :]].any():
        raise InputError(
            "the run's validation.txt must have tokens that are known to verify exports on, got "
            "none: train again with another --tokenizer"
        )
    return Reference(windows, logits, known, prefix_len)


def check_length(token_ids):
    if len(token_ids) < 3:
        raise InputError(
            f"the run's validation.txt must have at least 3 tokens to verify exports on, got "
            f"{len(token_ids)}: put it back, or train again"
        )


def _evenly_spaced(model, token_ids, num_tokens):
    num_windows = np.clip(MAX_LOGITS // (num_tokens * model.config.vocab_size), 2, NUM_WINDOWS)
    starts = np.linspace(0, len(token_ids) - num_tokens, num_windows).astype(int)
    return np.asarray(token_ids, "int32")[starts[:, None] + np.arange(num_tokens)]


def make_source_reference(model, token_ids, unk_token_id):
    """The same for an `EncoderDecoder` that continues a text: a window is a source and a target."""
    check_length(token_ids)
    num_tokens = min(2 * model.config.max_seq_len, len(token_ids))
    windows = _evenly_spaced(model, token_ids, num_tokens)
    source_len = num_tokens // 2
    return _with_sources(
        model, windows[:, :source_len], np.full(len(windows), source_len, "int32"),
        windows[:, source_len:], unk_token_id,
    )  # fmt: skip


def make_pairs_reference(model, pairs, unk_token_id):
    """The same for an `EncoderDecoder` of pairs; pairs: `EncodedPairs`."""
    rows = np.linspace(0, len(pairs) - 1, NUM_WINDOWS).astype(int)
    pairs = pairs.part(rows)
    target_ids = np.where(
        np.arange(pairs.target_ids.shape[1]) < pairs.target_lens[:, None], pairs.target_ids, -1
    )
    return _with_sources(model, pairs.source_ids, pairs.source_lens, target_ids, unk_token_id)


def _with_sources(model, source_ids, source_lens, target_ids, unk_token_id):
    source_len = source_ids.shape[1]
    padding = source_len - source_lens[:, None]
    places = np.arange(source_len)
    # In the windows a source ends where its target begins; the padding stands before it.
    moved = np.take_along_axis(source_ids, np.maximum(places - padding, 0), axis=1)
    moved = np.where(places < padding, -1, moved)
    token_ids = np.concatenate([moved, target_ids], axis=1)
    inputs = {
        "source_ids": source_ids,
        "source_lens": source_lens,
        "token_ids": np.maximum(token_ids[:, source_len - 1 : -1], 0),
    }
    logits = ops.convert_to_numpy(model(inputs))
    logits = np.pad(logits, ((0, 0), (source_len - 1, 0), (0, 0)))
    known = np.arange(model.config.vocab_size) != unk_token_id
    return Reference(token_ids, logits, known, source_len - 1)


def reference_loss(reference):
    """The Keras model's loss on the reference, in nats per token."""
    return _loss(_expected(reference), reference)


def _expected(reference):
    """float32 [number of tokens that count, vocab_size]."""
    return reference.logits[:, reference.prefix_len :][_targets(reference) >= 0]


def _targets(reference):
    return reference.token_ids[:, reference.prefix_len + 1 :]


def measure(engine, reference, read_ahead=False):
    """Runs an engine over the reference: prefill, then the window's true tokens one by one.

    Args:
        engine: `Engine`.
        reference: `Reference`.
        read_ahead: let it draft, if it does.

    Returns:
        `Measurement`.
    """
    prefix_len = reference.prefix_len
    noise = functools.partial(GREEDY.noise, 0, 0) if read_ahead else None
    logits, seconds = [], 0.0
    for window in reference.token_ids:
        prefix, rest = window[: prefix_len + 1], window[prefix_len:]
        engine.begin(prefix[prefix >= 0])
        begin = time.perf_counter()
        logits += [engine.decode(token_id, noise) for token_id in rest[rest >= 0][:-1]]
        seconds += time.perf_counter() - begin
    logits, expected = np.array(logits), _expected(reference)  # [number of tokens, vocab_size]
    difference = np.abs(logits - expected)[:, reference.known].max()
    likeliest, expected = (
        np.where(reference.known, x, -np.inf).argmax(axis=-1) for x in (logits, expected)
    )
    return Measurement(
        max_logit_difference=float(difference),
        greedy_agreement=float(np.mean(likeliest == expected)),
        loss=_loss(logits, reference),
        tokens_per_second=likeliest.size / seconds,
    )


def check(measurement, reference, quantization, name):
    """Raises `VerificationError` where a measurement is not what the quantization explains."""
    largest = np.abs(_expected(reference)[:, reference.known]).max()
    limit = MAX_LOGIT_DIFFERENCE.get(quantization, np.inf) * max(largest / USUAL_LOGIT, 1.0)
    difference = measurement.max_logit_difference
    _check_at_most(limit, difference, f"{name} is wrong: its logits differ from the Keras model's")
    expected = reference_loss(reference)
    limit = expected + max(expected * MAX_LOSS_RISE[quantization], ALWAYS_ALLOWED_RISE)
    sentence = f"{name} is wrong: the Keras model's loss is {expected:.4g}, and its own"
    _check_at_most(limit, measurement.loss, sentence)


def _check_at_most(limit, value, sentence):
    if value <= limit:  # which NaN is not
        return
    digits = next((n for n in range(3, 17) if f"{value:.{n}g}" != f"{limit:.{n}g}"), 17)
    raise VerificationError(
        f"{sentence}: expected at most {limit:.{digits}g}, got {value:.{digits}g}; nothing was "
        "written"
    )


def _loss(logits, reference):
    targets, losses = _targets(reference), []
    targets = targets[targets >= 0]
    # In parts: with a large vocabulary, all at once would take gigabytes.
    num_parts = len(reference.token_ids)
    for rows, part in zip(np.array_split(logits, num_parts), np.array_split(targets, num_parts)):
        # The files ban the unknown token; so that the losses compare, all are without it.
        rows = np.where(reference.known, rows, -np.inf).astype("float64")
        largest = rows.max(axis=-1, keepdims=True)
        log_normalizer = largest[:, 0] + np.log(np.exp(rows - largest).sum(axis=-1))
        part_losses = log_normalizer - rows[np.arange(len(part)), part]
        losses.append(part_losses[reference.known[part]])
    return float(np.mean(np.concatenate(losses)))
