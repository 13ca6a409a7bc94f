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
from neo_keras.text.encoding import Text, encode_text
from neo_keras.text.pairs import encode_pairs, parse_pairs

NUM_WINDOWS = 16
MAX_LOGITS = 2**27  # of all windows: with a large vocabulary and context there are fewer windows
MAX_WEIGHT_READS = 2**37  # of all tokens, as each token reads each weight: a minute or two on a CPU
MAX_PREFIX = 64  # tokens of a prompt that prefill takes
USUAL_LOGIT = 5.0  # rounding grows with the logits: where they are larger, so is what is allowed


class VerificationError(FailedError):
    """An exported file does not compute what the Keras model computes."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """Validation text, and what the Keras model says of it."""

    prompts: list  # of int32 [prompt_len]; of an encoder-decoder, sources
    targets: list  # of int32 [target_len], what follows each prompt
    logits: np.ndarray  # float32 [number of all targets, vocab_size]
    known: np.ndarray  # bool [vocab_size], false for a token that is never to be sampled

    @functools.cached_property
    def loss(self):
        """The Keras model's, in nats per token."""
        return self.loss_of(self.logits)

    def loss_of(self, logits):
        """The loss of logits of the same shape, in nats per token."""
        targets, losses = np.concatenate(self.targets), []
        # In parts: with a large vocabulary, all at once would take gigabytes.
        parts = (np.array_split(array, len(self.targets)) for array in (logits, targets))
        for rows, part in zip(*parts):
            # The files suppress these tokens; so that losses compare, all are without them.
            rows = np.where(self.known, rows, -np.inf).astype("float64")
            largest = rows.max(axis=-1, keepdims=True)
            log_normalizer = largest[:, 0] + np.log(np.exp(rows - largest).sum(axis=-1))
            part_losses = log_normalizer - rows[np.arange(len(part)), part]
            losses.append(part_losses[self.known[part]])
        return float(np.mean(np.concatenate(losses)))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one file does with the reference's prompts and targets."""

    max_logit_difference: float  # from the Keras model
    greedy_agreement: float  # how often the most likely token is the Keras model's, 0 .. 1
    loss: float  # nats per token, over the tokens that are known
    tokens_per_second: float  # of decoding, one token a call; of weights alone, a window a call


def encode_reference(model, text, tokenizer):
    """Makes a reference of validation text; of a model of pairs, it is JSON Lines of them.

    Returns:
        (`Reference`, `EncodedText` or `EncodedPairs`).

    Raises:
        InputError: the text is all but empty, or unknown.
        FailedError: the model computes no numbers.
    """
    suppressed_ids = tokenizer.suppressed_ids(model.config.vocab_size)
    if model.config.end_token_id is None:
        encoded = encode_text(tokenizer, Text.in_memory(text))
        return make_reference(model, encoded.token_ids, suppressed_ids), encoded
    encoded = encode_pairs(parse_pairs(text), tokenizer, model.config.max_seq_len)
    pairs = encoded.part(np.linspace(0, len(encoded) - 1, NUM_WINDOWS).astype(int))
    columns = pairs.source_ids, pairs.source_lens, pairs.target_ids, pairs.target_lens
    return _with_logits(model, *columns, suppressed_ids), encoded


def make_reference(model, token_ids, suppressed_ids=()):
    """Of windows of a text, int [num_tokens], as long as the model was trained on.

    suppressed_ids: int [num_suppressed], of `Tokenizer.suppressed_ids`.
    """
    if len(token_ids) < 3:
        raise InputError(
            f"the validation text must have at least 3 tokens to verify exports on, got "
            f"{len(token_ids)}: put back the run's validation.txt, or give another text"
        )
    config = model.config
    size = min(config.window_len + (not model.has_encoder), len(token_ids))
    most = min(MAX_LOGITS // config.vocab_size, MAX_WEIGHT_READS // model.count_params())
    num_windows = np.clip(most // size, 2, NUM_WINDOWS)
    starts = np.unique(np.linspace(0, len(token_ids) - size, num_windows).astype(int))
    windows = np.asarray(token_ids, "int32")[starts[:, None] + np.arange(size)]
    prompt_len = size // 2 if model.has_encoder else 1 + min((size - 1) // 2, MAX_PREFIX)
    prompts, targets = np.split(windows, [prompt_len], axis=1)
    prompt_lens, target_lens = (np.full(len(x), x.shape[1], "int32") for x in (prompts, targets))
    return _with_logits(model, prompts, prompt_lens, targets, target_lens, suppressed_ids)


def _with_logits(model, prompts, prompt_lens, targets, target_lens, suppressed_ids):
    """The `Reference` of prompts and targets, padded: int32 [num_windows, length]."""
    if model.has_encoder:
        last = np.take_along_axis(prompts, prompt_lens[:, None] - 1, axis=1)
        token_ids = np.concatenate([last, targets[:, :-1]], axis=1)
        inputs = {"source_ids": prompts, "source_lens": prompt_lens, "token_ids": token_ids}
    else:
        inputs = np.concatenate([prompts, targets[:, :-1]], axis=1)
    is_target = np.arange(targets.shape[1]) < target_lens[:, None]
    logits = ops.convert_to_numpy(model(inputs))[:, -targets.shape[1] :][is_target]
    check_finite(logits)
    known = ~np.isin(np.arange(model.config.vocab_size), suppressed_ids)
    if not known[targets[is_target]].any():
        raise InputError(
            "the validation text must have tokens that are known to verify exports on, got none: "
            "train again with another --tokenizer"
        )
    prompts = [row[:count] for row, count in zip(prompts, prompt_lens)]
    targets = [row[:count] for row, count in zip(targets, target_lens)]
    return Reference(prompts, targets, logits, known)


def measure(engine, reference, speculative=False):
    """The `Measurement` of an `Engine`: it takes in a prompt, then its true targets one by one."""
    noise = functools.partial(GREEDY.noise, 0, 0) if speculative else None
    logits, seconds = [], 0.0
    for prompt, targets in zip(reference.prompts, reference.targets):
        engine.begin(prompt)
        begin = time.perf_counter()
        logits += [engine.decode(token_id, noise) for token_id in (prompt[-1], *targets[:-1])]
        seconds += time.perf_counter() - begin
    return _measurement(np.array(logits), reference, len(logits) / seconds)


def measure_weights(model, reference):
    """As `measure`, of a `GPT` with the weights of a file: a window at once."""
    logits, begin = [], time.perf_counter()
    for prompt, targets in zip(reference.prompts, reference.targets):
        window = np.concatenate([prompt, targets[:-1]])[None]
        logits.append(ops.convert_to_numpy(model(window))[0, -len(targets) :])
    logits = np.concatenate(logits)
    return _measurement(logits, reference, len(logits) / (time.perf_counter() - begin))


def _measurement(logits, reference, tokens_per_second):
    expected, known = reference.logits, reference.known
    greedy, keras_greedy = (np.where(known, x, -np.inf).argmax(axis=-1) for x in (logits, expected))
    return Measurement(
        max_logit_difference=float(np.abs(logits - expected)[:, known].max()),
        greedy_agreement=float(np.mean(greedy == keras_greedy)),
        loss=reference.loss_of(logits),
        tokens_per_second=tokens_per_second,
    )


def check(measurement, reference, quantization, name):
    """Raises `VerificationError` where a measurement is not what the quantization explains."""
    allowed, loss = QUANTIZATIONS[quantization], reference.loss
    largest = np.abs(reference.logits[:, reference.known]).max()
    max_difference = allowed.max_logit_difference * max(largest / USUAL_LOGIT, 1.0)
    max_loss = loss + max(loss * allowed.max_loss_rise, allowed.always_allowed_rise)
    logits = "its logits differ from the Keras model's", measurement.max_logit_difference
    losses = f"the Keras model's loss is {loss:.4g}, and its own", measurement.loss
    for what, value, limit in ((*logits, max_difference), (*losses, max_loss)):
        if not value <= limit:  # so NaN is refused
            digits = next((n for n in range(3, 17) if f"{value:.{n}g}" != f"{limit:.{n}g}"), 17)
            raise VerificationError(
                f"{name} is wrong: {what}: expected at most {limit:.{digits}g}, got "
                f"{value:.{digits}g}; nothing was written"
            )
