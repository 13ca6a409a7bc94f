"""Holds every exported file against the Keras model, in the runtime that the file is for."""

import dataclasses
import functools
import time

import numpy as np
from keras import ops

from neo_keras.errors import FailedError, InputError
from neo_keras.export.quantization import QUANTIZATIONS
from neo_keras.generation.decoding import check_finite
from neo_keras.generation.sampler import GREEDY
from neo_keras.text.encoding import encode_text
from neo_keras.text.pairs import encode_pairs, parse_pairs
from neo_keras.text.shards import Text

NUM_WINDOWS = 16
MAX_LOGITS = 2**27  # of all windows: with a large vocabulary and context there are fewer windows
MAX_PREFIX = 64  # tokens of a window that prefill takes
USUAL_LOGIT = 5.0  # rounding grows with the logits: where they are larger, so is what is allowed
# Nats per token that a loss may always rise by: a wrong file is off by a hundred times that. Of the
# loss of a model that knows its text by heart, a share would be less than what rounding does to it.
ALWAYS_ALLOWED_RISE = 0.01


class VerificationError(FailedError):
    """An exported file does not compute what the Keras model computes."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """Windows of validation text, and what the Keras model says of them.

    Attributes:
        token_ids: int32 [num_windows, window_len + 1]; -1 where a source or a target is shorter
            than others.
        logits: float32 [num_windows, window_len, vocab_size].
        known: bool [vocab_size], false for a token that is never to be sampled.
        prefix_len: the loss counts from here on; what stands before is prefilled. With the next
            token it is the source of an encoder-decoder.
    """

    token_ids: np.ndarray
    logits: np.ndarray
    known: np.ndarray
    prefix_len: int

    @property
    def targets(self):
        """int32 [num_windows, number of tokens that may count]."""
        return self.token_ids[:, self.prefix_len + 1 :]

    @property
    def expected(self):
        """The logits of what counts: float32 [number of tokens, vocab_size]."""
        return self.logits[:, self.prefix_len :][self.targets >= 0]

    @functools.cached_property
    def loss(self):
        """The Keras model's, in nats per token."""
        return self.loss_of(self.expected)

    def loss_of(self, logits):
        """The loss of logits, float32 [number of tokens, vocab_size], in nats per token."""
        targets, losses = self.targets[self.targets >= 0], []
        # In parts: with a large vocabulary, all at once would take gigabytes.
        parts = (np.array_split(array, len(self.token_ids)) for array in (logits, targets))
        for rows, part in zip(*parts):
            # The files suppress the unknown token; so that losses compare, all are without it.
            rows = np.where(self.known, rows, -np.inf).astype("float64")
            largest = rows.max(axis=-1, keepdims=True)
            log_normalizer = largest[:, 0] + np.log(np.exp(rows - largest).sum(axis=-1))
            part_losses = log_normalizer - rows[np.arange(len(part)), part]
            losses.append(part_losses[self.known[part]])
        return float(np.mean(np.concatenate(losses)))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one file does with the reference's windows.

    Attributes:
        max_logit_difference: from the Keras model.
        greedy_agreement: how often the most likely token is the Keras model's, 0 .. 1.
        loss: nats per token, over the tokens that are known.
        tokens_per_second: of decoding, one token a call.
    """

    max_logit_difference: float
    greedy_agreement: float
    loss: float
    tokens_per_second: float


def encode_reference(model, text, tokenizer):
    """Makes a reference of validation text.

    Args:
        model: `GPT` or `EncoderDecoder`.
        text: str; of a model of pairs, JSON Lines of them.
        tokenizer: `Tokenizer`.

    Returns:
        (`Reference`, `EncodedText` or `EncodedPairs`).

    Raises:
        InputError: the text is all but empty, or unknown.
        FailedError: the model computes no numbers.
    """
    config, unk_token_id = model.config, tokenizer.unk_token_id
    if config.end_token_id is not None:
        encoded = encode_pairs(parse_pairs(text), tokenizer, config.max_seq_len)
        reference = make_pairs_reference(model, encoded, unk_token_id)
    else:
        encoded = encode_text(tokenizer, Text.in_memory(text))
        make = make_source_reference if model.has_encoder else make_reference
        reference = make(model, encoded.token_ids, unk_token_id)
    check_finite(reference.logits)
    return reference, encoded


def make_reference(model, token_ids, unk_token_id):
    """Of a `GPT`: windows of a text, int [num_tokens], as long as the model's context."""
    windows = _evenly_spaced(model, token_ids, model.config.max_seq_len + 1)
    window_len = windows.shape[1] - 1
    logits = ops.convert_to_numpy(model(windows[:, :-1]))
    known = np.arange(model.config.vocab_size) != unk_token_id
    reference = Reference(windows, logits, known, min(window_len // 2, MAX_PREFIX))
    if not known[reference.targets].any():
        raise InputError(
            "the validation text must have tokens that are known to verify exports on, got none: "
            "train again with another --tokenizer"
        )
    return reference


def make_source_reference(model, token_ids, unk_token_id):
    """Of an `EncoderDecoder` that continues a text: a window is a source and a target."""
    windows = _evenly_spaced(model, token_ids, 2 * model.config.max_seq_len)
    source_len = windows.shape[1] // 2
    source_lens = np.full(len(windows), source_len, "int32")
    parts = windows[:, :source_len], source_lens, windows[:, source_len:]
    return _with_sources(model, *parts, unk_token_id)


def make_pairs_reference(model, pairs, unk_token_id):
    """Of an `EncoderDecoder` of pairs; pairs: `EncodedPairs`."""
    pairs = pairs.part(np.linspace(0, len(pairs) - 1, NUM_WINDOWS).astype(int))
    is_target = np.arange(pairs.target_ids.shape[1]) < pairs.target_lens[:, None]
    target_ids = np.where(is_target, pairs.target_ids, -1)
    return _with_sources(model, pairs.source_ids, pairs.source_lens, target_ids, unk_token_id)


def _evenly_spaced(model, token_ids, num_tokens):
    if len(token_ids) < 3:
        raise InputError(
            f"the validation text must have at least 3 tokens to verify exports on, got "
            f"{len(token_ids)}: put back the run's validation.txt, or give another text"
        )
    num_tokens = min(num_tokens, len(token_ids))
    num_windows = np.clip(MAX_LOGITS // (num_tokens * model.config.vocab_size), 2, NUM_WINDOWS)
    starts = np.linspace(0, len(token_ids) - num_tokens, num_windows).astype(int)
    return np.asarray(token_ids, "int32")[starts[:, None] + np.arange(num_tokens)]


def _with_sources(model, source_ids, source_lens, target_ids, unk_token_id):
    source_len = source_ids.shape[1]
    padding = source_len - source_lens[:, None]
    places = np.arange(source_len)
    # In the windows a source ends where its target begins; the padding stands before it.
    moved = np.take_along_axis(source_ids, np.maximum(places - padding, 0), axis=1)
    token_ids = np.concatenate([np.where(places < padding, -1, moved), target_ids], axis=1)
    inputs = {
        "source_ids": source_ids,
        "source_lens": source_lens,
        "token_ids": np.maximum(token_ids[:, source_len - 1 : -1], 0),
    }
    logits = ops.convert_to_numpy(model(inputs))
    logits = np.pad(logits, ((0, 0), (source_len - 1, 0), (0, 0)))
    known = np.arange(model.config.vocab_size) != unk_token_id
    return Reference(token_ids, logits, known, source_len - 1)


def measure(engine, reference, speculative=False):
    """Runs an engine over the reference: prefill, then the window's true tokens one by one.

    Args:
        engine: `Engine`.
        reference: `Reference`.
        speculative: decode speculatively.

    Returns:
        `Measurement`.
    """
    noise = functools.partial(GREEDY.noise, 0, 0) if speculative else None
    logits, seconds = [], 0.0
    for window in reference.token_ids:
        prefix, rest = np.split(window, [reference.prefix_len])
        engine.begin(np.append(prefix[prefix >= 0], rest[0]))
        begin = time.perf_counter()
        logits += [engine.decode(token_id, noise) for token_id in rest[rest >= 0][:-1]]
        seconds += time.perf_counter() - begin
    logits, known = np.array(logits), reference.known  # [number of tokens, vocab_size]
    greedy, expected = (
        np.where(known, x, -np.inf).argmax(axis=-1) for x in (logits, reference.expected)
    )
    return Measurement(
        max_logit_difference=float(np.abs(logits - reference.expected)[:, known].max()),
        greedy_agreement=float(np.mean(greedy == expected)),
        loss=reference.loss_of(logits),
        tokens_per_second=greedy.size / seconds,
    )


def check(measurement, reference, quantization, name):
    """Raises `VerificationError` where a measurement is not what the quantization explains."""
    allowed = QUANTIZATIONS[quantization]
    largest = np.abs(reference.expected[:, reference.known]).max()
    limit = allowed.max_logit_difference * max(largest / USUAL_LOGIT, 1.0)
    sentence = f"{name} is wrong: its logits differ from the Keras model's"
    _check_at_most(limit, measurement.max_logit_difference, sentence)
    limit = reference.loss + max(reference.loss * allowed.max_loss_rise, ALWAYS_ALLOWED_RISE)
    sentence = f"{name} is wrong: the Keras model's loss is {reference.loss:.4g}, and its own"
    _check_at_most(limit, measurement.loss, sentence)


def _check_at_most(limit, value, sentence):
    if value <= limit:  # which NaN is not
        return
    digits = next((n for n in range(3, 17) if f"{value:.{n}g}" != f"{limit:.{n}g}"), 17)
    raise VerificationError(
        f"{sentence}: expected at most {limit:.{digits}g}, got {value:.{digits}g}; nothing was "
        "written"
    )
