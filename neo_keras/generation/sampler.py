"""Choosing the next token from logits, with random numbers that NumPy and a graph share."""

import dataclasses
import functools

import numpy as np

from neo_keras.errors import InputError

STEPS_AT_A_TIME = 64
# Of a hash by Chris Wellons, lowbias32 (nullprogram.com/blog/2018/07/31), as signed numbers.
FACTORS = 0x7FEB352D, 0x846CA68B - 2**32
GOLDEN_RATIO = 0x9E3779B9 - 2**32  # moves 0 away from itself (Steele et al. 2014)
UNIFORM_BITS = 23  # so that every uniform number is exact in float32, and none is 0 or 1
# Each option of `Sampler`: whether a value is allowed, and what it must be.
OPTIONS = {
    "temperature": (lambda x: 0 <= x < float("inf"), "at least 0"),
    "top_k": (lambda k: k is None or k >= 1, "at least 1"),
    "top_p": (lambda p: p is None or 0 < p <= 1, "above 0 and at most 1"),
    "min_p": (lambda p: p is None or 0 <= p <= 1, "between 0 and 1"),
    "repetition_penalty": (lambda x: 0 < x < float("inf"), "above 0 (1 is off)"),
}


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Samples from the model's distribution, sharpened and cut; the cuts apply in order."""

    temperature: float = 1.0  # divides the logits; 0 is greedy: always the most likely token
    top_k: int | None = None  # keep the k most likely tokens
    # Keep the fewest most likely tokens whose probabilities reach p together (Holtzman et al. 2020,
    # arXiv:1904.09751).
    top_p: float | None = None
    # Keep tokens at least p times as likely as the most likely one (Nguyen et al. 2024,
    # arXiv:2407.01082).
    min_p: float | None = None
    repetition_penalty: float = 1.0  # see `penalized`; 1: off

    def __post_init__(self):
        for name, (is_allowed, expected) in OPTIONS.items():
            if not is_allowed(value := getattr(self, name)):
                raise InputError(f"{name.replace('_', '-')} must be {expected}, got {value}")

    def sample(self, logits, seed, step):
        """Samples a token id, as the `sample` signature of an exported file does.

        Args:
            logits: float array [vocab_size].
            seed: int, taken modulo 2**32.
            step: int, how many tokens were sampled before with this seed.
        """
        logits = np.asarray(logits, "float32")
        if self.temperature == 0:
            return int(np.argmax(logits))
        scores = logits + self.noise(seed, step, 1, len(logits))[0]
        if (self.top_k, self.top_p, self.min_p) != (None, None, None):
            scores = np.where(self.probabilities(logits) > 0, scores, -np.inf)
        return int(scores.argmax())

    def noise(self, seed, step, num_steps, vocab_size):
        """What `sample` adds to the logits of up to 64 steps: float32 [num_steps, vocab_size]."""
        if self.temperature == 0:
            return np.zeros((num_steps, vocab_size), "float32")
        block, row = divmod(step, STEPS_AT_A_TIME)
        noise = _noise_of_steps(self.temperature, seed, block, vocab_size)[row : row + num_steps]
        if len(noise) == num_steps:
            return noise
        following = _noise_of_steps(self.temperature, seed, block + 1, vocab_size)
        return np.concatenate([noise, following[: num_steps - len(noise)]])

    def probabilities(self, logits):
        """What `sample` samples from, above temperature 0: float64 [vocab_size], not normalized."""
        logits = np.asarray(logits, "float64")
        with np.errstate(over="ignore"):  # a temperature next to 0 makes all but the largest -inf
            probabilities = np.exp((logits - logits.max()) / self.temperature)
        if self.top_k is not None:
            probabilities[np.argsort(-probabilities, kind="stable")[self.top_k :]] = 0
        if self.top_p is not None and self.top_p < 1:
            order = np.argsort(-probabilities, kind="stable")
            before = np.cumsum(probabilities[order]) - probabilities[order]
            probabilities[order[before >= self.top_p * probabilities.sum()]] = 0
        if self.min_p is not None:
            probabilities[probabilities < self.min_p * probabilities.max()] = 0
        return probabilities


def penalized(logits, token_ids, penalty):
    """Makes tokens less likely that a text has already, with a penalty above 1.

    Positive logits are divided by it, negative ones multiplied (Keskar et al. 2019,
    arXiv:1909.05858, section 4.1; the two cases as in Transformers).

    Args:
        logits: float array [vocab_size].
        token_ids: of the text so far, sequence of int; how often one occurs does not matter.
    """
    logits, token_ids = np.array(logits), np.unique(np.asarray(token_ids, "int64"))
    chosen = logits[token_ids]
    logits[token_ids] = np.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits


@functools.lru_cache(maxsize=4)
def _noise_of_steps(temperature, seed, block, vocab_size):
    """Many steps' noise cost hardly more than one's: float32 [STEPS_AT_A_TIME, vocab_size]."""
    seed = np.array([seed % 2**32], "uint32").view("int32")
    steps = np.arange(STEPS_AT_A_TIME, dtype="int32")[:, None] + block * STEPS_AT_A_TIME
    return np.float32(temperature) * gumbel_noise(seed, steps, vocab_size, np)


def gumbel_noise(seed, step, size, ops):
    """Samples from the standard Gumbel distribution, the same for the same (seed, step, index).

    The index of the largest of logits + noise is a sample from softmax(logits) (Maddison et al.
    2014, arXiv:1411.0030). All operators are LiteRT's: a phone and a browser sample the same.

    Args:
        seed: int32 [1].
        step: int32 [1] or [num_steps, 1], how many tokens were sampled before.
        ops: `numpy` or `keras.ops`.

    Returns:
        float32 [size] or [num_steps, size].
    """
    x = _hash(_hash(_hash(seed, ops) + step, ops) + ops.arange(size, dtype="int32"), ops)
    bits = ops.right_shift(x, 32 - UNIFORM_BITS) + 2 ** (UNIFORM_BITS - 1)  # 0 .. 2**23 - 1
    uniform = (ops.array(bits, dtype="float32") + 0.5) * 2.0**-UNIFORM_BITS
    return -ops.log(-ops.log(uniform))


def _hash(x, ops):
    x = x + GOLDEN_RATIO
    x = ops.bitwise_xor(x, _logical_right_shift(x, 16, ops)) * FACTORS[0]
    x = ops.bitwise_xor(x, _logical_right_shift(x, 15, ops)) * FACTORS[1]
    return ops.bitwise_xor(x, _logical_right_shift(x, 16, ops))


def _logical_right_shift(x, bits, ops):
    # The shift that there is fills a negative number up with ones: take them off again.
    return ops.right_shift(x, bits) - ops.right_shift(x, 31) * (1 << (32 - bits))


GREEDY = Sampler(temperature=0)
