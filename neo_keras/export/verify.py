"""Holds every exported file against the Keras model, in the runtime that the file is for."""

import dataclasses
import time

import numpy as np
from keras import ops

from neo_keras.errors import FailedError, InputError

NUM_WINDOWS = 16
MAX_LOGITS = 2**27  # of all windows: with a large vocabulary and context there are fewer windows
MAX_PREFIX = 64  # tokens of a window that prefill takes

# How far a right file may stray: the largest logit difference where the weights are floats, and the
# relative rise of the loss. A conversion that went wrong is off by far more: it about doubles the
# loss. The default model's rises by 0.02% in int8 and 0.4% in int4: other models may mind more.
MAX_LOGIT_DIFFERENCE = {"float32": 1e-3, "float16": 1e-1}
MAX_LOSS_RISE = {
    "float32": 0.01,
    "float16": 0.01,
    "int8": 0.02,
    "int8-weights": 0.02,
    "int4": 0.1,
    "int4-block32": 0.1,
}


class VerificationError(FailedError):
    """An exported file does not compute what the Keras model computes."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """Windows of validation text, and what the Keras model says of them.

    Attributes:
        token_ids: int32 [num_windows, window_len + 1].
        logits: float32 [num_windows, window_len, vocab_size].
        known: bool [vocab_size], false for a token that is never to be drawn.
        prefix_len: the loss counts from here on; what stands before is prefilled.
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
    if len(token_ids) < 3:
        raise InputError(
            f"the run's validation.txt must have at least 3 tokens to verify exports on, got "
            f"{len(token_ids)}: put it back, or train again"
        )
    window_len = min(model.config.max_seq_len, len(token_ids) - 1)
    num_windows = np.clip(MAX_LOGITS // (window_len * model.config.vocab_size), 2, NUM_WINDOWS)
    starts = np.linspace(0, len(token_ids) - window_len - 1, num_windows).astype(int)
    windows = np.asarray(token_ids, "int32")[starts[:, None] + np.arange(window_len + 1)]
    logits = ops.convert_to_numpy(model(windows[:, :-1]))
    known = np.arange(model.config.vocab_size) != unk_token_id
    prefix_len = min(window_len // 2, MAX_PREFIX)
    if not known[windows[:, prefix_len + 1 :]].any():
        raise InputError(
            "the run's validation.txt must have tokens that are known to verify exports on, got "
            "none: train again with another --tokenizer"
        )
    return Reference(windows, logits, known, prefix_len)


def reference_loss(reference):
    """The Keras model's loss on the reference, in nats per token."""
    return _loss(reference.logits[:, reference.prefix_len :], reference)


def measure(engine, reference):
    """Runs an engine over the reference: prefill, then the window's true tokens one by one.

    Args:
        engine: `Engine`.
        reference: `Reference`.

    Returns:
        `Measurement`.
    """
    prefix_len = reference.prefix_len
    logits, seconds = [], 0.0
    for window in reference.token_ids:
        engine.reset()
        engine.prefill(window[:prefix_len])
        begin = time.perf_counter()
        logits.append([engine.decode(token_id) for token_id in window[prefix_len:-1]])
        seconds += time.perf_counter() - begin
    logits = np.array(logits)  # [num_windows, window_len - prefix_len, vocab_size]
    expected = reference.logits[:, prefix_len:]
    difference = np.abs(logits - expected)[:, :, reference.known].max()
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
    limit = MAX_LOGIT_DIFFERENCE.get(quantization, np.inf)
    # "not <=": so that NaN fails.
    if not measurement.max_logit_difference <= limit:
        raise VerificationError(
            f"{name} is wrong: its logits differ from the Keras model's by "
            f"{measurement.max_logit_difference:.2g}, expected at most {limit}; nothing was written"
        )
    expected = reference_loss(reference)
    if not measurement.loss <= expected * (1 + MAX_LOSS_RISE[quantization]):
        raise VerificationError(
            f"{name} is wrong: its loss is {measurement.loss:.4f}, the Keras model's "
            f"{expected:.4f}; nothing was written"
        )


def _loss(logits, reference):
    losses = []
    # One by one: with a large vocabulary, all at once would take gigabytes.
    for window, rows in zip(reference.token_ids[:, reference.prefix_len + 1 :], logits):
        # The files ban the unknown token; so that the losses compare, all are without it.
        rows = np.where(reference.known, rows, -np.inf).astype("float64")
        largest = rows.max(axis=-1, keepdims=True)
        log_normalizer = largest[:, 0] + np.log(np.exp(rows - largest).sum(axis=-1))
        window_losses = log_normalizer - rows[np.arange(len(window)), window]
        losses.append(window_losses[reference.known[window]])
    return float(np.mean(np.concatenate(losses)))
