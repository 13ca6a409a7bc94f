"""Puts examples one after another into rows that are as long as the context."""

import bisect
import dataclasses
from collections.abc import Sequence

import numpy as np

from neo_keras.text.encoding import TokenStatistics
from neo_keras.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class EncodedExample:
    token_ids: np.ndarray  # int32 [num_tokens]
    weights: np.ndarray  # uint8 [num_tokens]: 1 where a token is trained; of the first one 0


@dataclasses.dataclass(frozen=True)
class PackedExamples(TokenStatistics):
    """Rows of examples; each row predicts its tokens from the second one on.

    The statistics are of what is trained. An unknown token counts as one character of one byte: of
    a conversation there is no text to look it up in.
    """

    rows: np.ndarray  # int32 [num_rows, at most seq_len + 1], token ids; 0 after the last example
    weights: np.ndarray  # uint8, as rows: 1 where a token is trained
    segments: np.ndarray  # unsigned int, as rows: the place of the example in its row, from 1; or 0
    num_tokens: int  # that are trained
    num_chars: int
    num_unknown: int
    unknown_bytes: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def token_ids(self) -> np.ndarray:
        """One example after another: int32 [number of all tokens]."""
        return self.rows[self.segments > 0]

    @property
    def fill(self) -> float:
        """The share of the rows that holds tokens, 0 .. 1."""
        return float(np.mean(self.segments > 0))


def make_example(segments: Sequence[tuple[Sequence[int], bool]]) -> EncodedExample:
    """Of token ids, and whether they are trained. Nothing predicts the first one."""
    token_ids = np.concatenate([np.asarray(part_ids, "int32") for part_ids, _ in segments])
    weights = np.repeat([trained for _, trained in segments], [len(p) for p, _ in segments])
    weights[:1] = False
    return EncodedExample(token_ids, weights.astype("uint8"))


def cut_into_rows(example: EncodedExample, seq_len: int) -> list[EncodedExample]:
    """Parts that a context can hold; the last token of one is the first of the next."""
    return [
        EncodedExample(
            example.token_ids[start : start + seq_len + 1],
            np.append(np.uint8(0), example.weights[start + 1 : start + seq_len + 1]),
        )
        for start in range(0, len(example.token_ids) - 1, seq_len)
    ]


def pack(
    examples: Sequence[EncodedExample], seq_len: int, tokenizer: Tokenizer, seed: int = 0
) -> PackedExamples:
    """Puts examples, of at most seq_len + 1 tokens, into rows.

    Each in turn, in an order of the seed, goes to the row that has the least room for it (best
    fit), or to a new one.
    """
    rows, spaces = [], []  # spaces: (tokens that fit, index of the row), sorted
    for i in np.random.default_rng(seed).permutation(len(examples)):
        length = len(examples[i].token_ids)
        place = bisect.bisect_left(spaces, (length, 0))
        space, row = spaces.pop(place) if place < len(spaces) else (seq_len + 1, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(examples[i])
        if space - length > 1:  # an example has two tokens at least
            bisect.insort(spaces, (space - length, row))
    # No longer than they need be, where there are few examples.
    width = max(sum(len(example.token_ids) for example in row) for row in rows)
    shape, dtype = (len(rows), width), np.min_scalar_type(seq_len + 1)
    arrays = np.zeros(shape, "int32"), np.zeros(shape, "uint8"), np.zeros(shape, dtype)
    for row, *row_arrays in zip(rows, *arrays):
        numbers = [np.full(len(e.token_ids), n) for n, e in enumerate(row, 1)]
        parts = [e.token_ids for e in row], [e.weights for e in row], numbers
        for array, part in zip(row_arrays, map(np.concatenate, parts)):
            array[: len(part)] = part
    return PackedExamples(*arrays, *_count(arrays[0][arrays[1] > 0], tokenizer))


def _count(trained_ids, tokenizer):
    """(tokens, characters, unknown tokens, their bytes with one for the end of each)."""
    is_unknown = trained_ids == tokenizer.unk_token_id
    num_unknown = int(np.count_nonzero(is_unknown))
    num_chars = int(tokenizer.token_bytes.count_chars(trained_ids[~is_unknown]).sum()) + num_unknown
    return len(trained_ids), num_chars, num_unknown, 2 * num_unknown
