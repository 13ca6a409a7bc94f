"""Pairs as arrays of token ids, ready to train on. Imports no TensorFlow."""

import dataclasses
import math

import numpy as np

from neo_keras.errors import InputError


@dataclasses.dataclass(frozen=True)
class EncodedPairs:
    """Rows of padded token ids. Each source and each target ends with the end token.

    Attributes:
        source_ids: int32 [num_pairs, longest source].
        source_lens: int32 [num_pairs].
        target_ids: int32 [num_pairs, longest target].
        target_lens: int32 [num_pairs].
        target_chars: int32 [num_pairs], characters of each target.
        target_unknowns: int32 [num_pairs], tokens of each that stand for something unknown.
    """

    source_ids: np.ndarray
    source_lens: np.ndarray
    target_ids: np.ndarray
    target_lens: np.ndarray
    target_chars: np.ndarray
    target_unknowns: np.ndarray

    def __len__(self):
        return len(self.source_ids)

    def part(self, rows):
        """Some of the pairs; rows: a slice, or int [num_rows]."""
        return EncodedPairs(*(array[rows] for array in vars(self).values()))

    @property
    def tokens_per_char(self):
        """Of the targets, their ends included."""
        return int(self.target_lens.sum()) / int(self.target_chars.sum())

    @property
    def unknown_share(self):
        """Of the tokens of the targets, 0 .. 1."""
        return int(self.target_unknowns.sum()) / int(self.target_lens.sum())

    def bits_per_char(self, loss):
        """Of the targets; loss: in nats per token."""
        return loss / math.log(2) * self.tokens_per_char


@dataclasses.dataclass(frozen=True)
class TokenizedPairs:
    """As `TokenizedCorpus`, of pairs.

    Attributes:
        training: the first nine tenths.
        validation: the last tenth.
        sample_prompt: the first source of these.
    """

    training: EncodedPairs
    validation: EncodedPairs
    sample_prompt: str

    def count_training_rows(self, model_config):
        """How many rows an epoch has."""
        return len(self.training)

    def tokens_per_row(self, model_config):
        """How many tokens a row predicts."""
        return float(self.training.target_lens.mean())

    def describe(self):
        """How much there is, for people."""
        return f"{len(self.training):,} pairs to train on, {len(self.validation):,} to validate on"


def split_pairs(pairs):
    """(the first nine tenths, to train on; the last tenth, to validate on).

    Raises:
        InputError: there are too few.
    """
    cut = int(len(pairs) * 0.9)
    if not cut:
        raise InputError(f"expected two pairs at least, got {len(pairs)}: give more with --data")
    return pairs[:cut], pairs[cut:]


def tokenize_pairs(pairs, tokenizer, max_seq_len):
    """Encodes pairs.

    Args:
        pairs: list of (source, target), both str.
        tokenizer: `Tokenizer` that has an end token.
        max_seq_len: of the model.

    Returns:
        `TokenizedPairs`.

    Raises:
        InputError: there are too few, or one is too long.
    """
    training, validation = (encode_pairs(p, tokenizer, max_seq_len) for p in split_pairs(pairs))
    return TokenizedPairs(training, validation, split_pairs(pairs)[1][0][0])


def encode_pairs(pairs, tokenizer, max_seq_len):
    """`EncodedPairs` of (source, target); raises `InputError` where one is too long."""
    columns = []
    for kind, texts in zip(("source", "target"), zip(*pairs)):
        rows = [[*tokenizer.encode(text), tokenizer.end_token_id] for text in texts]
        lens = np.array([len(row) for row in rows], "int32")
        if lens.max() > max_seq_len:
            raise InputError(
                f"a {kind} has {lens.max()} tokens with its end, at most {max_seq_len} fit "
                f"({texts[lens.argmax()][:40]!r}...): shorten it, or give a larger --seq-len"
            )
        token_ids = np.zeros((len(rows), lens.max()), "int32")
        for row_ids, row in zip(token_ids, rows):
            row_ids[: len(row)] = row
        columns += [token_ids, lens]
    chars = np.array([len(target) for _, target in pairs], "int32")
    unknowns = np.sum(columns[2] == tokenizer.unk_token_id, axis=1, dtype="int32")
    return EncodedPairs(*columns, chars, unknowns)
