"""A corpus of whole examples, to fine-tune a model on: documents, completions, conversations."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError, shortened
from neo_keras.text import formats, packing
from neo_keras.text.encoding import MAX_TAIL_CHARS, TokenizedCorpus
from neo_keras.text.example_forms import DOCUMENT, RECORD_FORMS, Form, check_unicode
from neo_keras.text.formats import RECORD_READERS, mistake, suffix_of
from neo_keras.text.tokenizer import Tokenizer

MAX_EXAMPLE_CHARS = 2**24
MAX_CHARS = 2**28  # of all examples, which are in memory
VALIDATION_SHARE = 10  # one example in so many
NUM_SAMPLE_PROMPTS = 3
JSON_LINES = (".jsonl", ".ndjson")


class Example(NamedTuple):
    content: Any  # as `Form.read` returns it
    place: str  # in the files, for errors
    digest: bytes  # of the content


class ExampleCorpus:
    """As `Corpus`, of examples of one form. It comes with the tokenizer of a pretrained model.

    A tenth of the examples, drawn at random but always the same, are for validation. What occurs
    more than once is on one side only: copies of what is validated on are left out.
    """

    has_pairs, has_examples = False, True

    def __init__(self, form: Form, examples: Sequence[Example], tokenizer: Tokenizer):
        self._form, self._tokenizer = form, tokenizer
        digests = b"".join(example.digest for example in examples)
        self.sha256 = hashlib.sha256(form.name.encode() + digests).hexdigest()
        self.training, self.validation, copies = _split(examples)
        if not self.training:
            same = " that are the same" if len(examples) > 1 else ""
            raise InputError(
                f"expected two different {form.name} at least, got {len(examples)}{same}: give "
                "more with --data"
            )
        if copies:
            warnings.warn(
                f"{len(copies):,} of {len(examples):,} {form.name} are copies of some that are "
                f"validated on, and are left out (the first: {copies[0].place}: "
                f"{shortened(copies[0].content)})",
                stacklevel=4,
            )

    @property
    def excerpt(self) -> str:
        """The text of examples to validate on, with their end tokens."""
        texts, num_chars = [], 0
        for example in self.validation:
            segments = self._encode(example)
            texts.append(self._tokenizer.decode([i for part_ids, _ in segments for i in part_ids]))
            num_chars += len(texts[-1])
            if num_chars >= MAX_TAIL_CHARS:
                break
        return "".join(texts)[:MAX_TAIL_CHARS]

    def tokenize(self, tokenizer: Tokenizer, model_config: ModelConfig) -> TokenizedCorpus:
        """Encodes both parts into rows; raises `InputError` where nothing fits the context."""
        seq_len, name = model_config.max_seq_len, self._form.name
        training, validation = (
            self._pack(part, tokenizer, seq_len) for part in (self.training, self.validation)
        )
        what = (
            f"{len(self.training):,} {name} to train on ({len(training.token_ids):,} tokens, of "
            f"which {training.num_tokens:,} are trained, in {len(training):,} rows of "
            f"{training.rows.shape[1] - 1}, {training.fill:.1%} full), "
            f"{len(self.validation):,} to validate on"
        )
        contents = [example.content for example in self.validation[:NUM_SAMPLE_PROMPTS]]
        prompts = tuple(filter(None, (self._form.prompt(tokenizer, c) for c in contents)))
        questions = tuple(filter(None, map(self._form.question, contents)))
        tokens_per_row = training.num_tokens / len(training)
        sizes = len(training), tokens_per_row
        return TokenizedCorpus(training, validation, *sizes, what, prompts, questions)

    def _encode(self, example):
        try:
            return self._form.encode(self._tokenizer, example.content)
        except InputError as error:
            raise InputError(f"{example.place}: {error}") from None

    def _pack(self, part, tokenizer, seq_len):
        examples, num_cut, num_empty = [], 0, 0
        for example in part:
            encoded = packing.make_example(self._encode(example))
            is_long = len(encoded.token_ids) > seq_len + 1
            pieces = packing.cut_into_rows(encoded, seq_len)
            kept = pieces if self._form.fits_rows else pieces[:1]
            kept = [piece for piece in kept if piece.weights.any()]
            num_cut += is_long and not self._form.fits_rows
            num_empty += not kept
            examples += kept
        if not examples:
            raise InputError(
                f"none of {len(part):,} {self._form.name} has a token to train on within {seq_len} "
                "tokens: shorten what stands before, or give a larger --seq-len"
            )
        if num_cut:
            empty = f"; {num_empty:,} of them have nothing left to train on" if num_empty else ""
            warnings.warn(
                f"{num_cut:,} of {len(part):,} {self._form.name} are longer than {seq_len} tokens, "
                f"and are cut at the end{empty}: shorten them, or give a larger --seq-len",
                stacklevel=4,
            )
        return packing.pack(examples, seq_len, tokenizer)


def _split(examples):
    """(training, validation, copies of the latter): lists; a single example is not trained on."""
    first = {}
    for example in examples:
        first.setdefault(example.digest, example)
    unique = list(first.values())
    order = np.random.default_rng(0).permutation(len(unique))
    validation = [unique[i] for i in order[: max(len(unique) // VALIDATION_SHARE, 1)]]
    digests, chosen = {e.digest for e in validation}, {id(e) for e in validation}
    training = [e for e in examples if e.digest not in digests]
    copies = [e for e in examples if e.digest in digests and id(e) not in chosen]
    return training, validation, copies


def are_examples(paths: Sequence[str]) -> bool:
    """Whether files are examples, or else one plain text."""
    return len(paths) > 1 or any(suffix_of(path) in RECORD_READERS for path in paths)


def open_examples(paths: Sequence[str], column: str | None, tokenizer: Tokenizer) -> ExampleCorpus:
    """Reads files: each record is an example, and so is each file of another kind.

    Args:
        column: Of documents; None: the keys of a record tell its form, which all must have.

    Raises:
        InputError: A file is damaged or too large, or a record is no example, or of another form.
    """
    first, examples, unused, num_chars = None, [], {}, 0
    for form, example, num_example_chars, other_keys in _read_files(paths, column):
        first = first or form
        if form is not first:
            raise InputError(
                f"{example.place}: expected {first.name} only, as before it, got {form.name}: give "
                "one form of examples"
            )
        num_chars += num_example_chars
        if num_chars > MAX_CHARS:
            raise InputError(
                f"{example.place}: expected examples of at most {MAX_CHARS:,} characters in all, "
                "got more: give fewer, or make one plain text of them"
            )
        examples.append(example)
        unused.update(dict.fromkeys(other_keys))
    if not examples:
        raise InputError(f"expected examples to train on, got none in {paths[0]}; pass other files")
    if unused:
        used, names = " and ".join(map(repr, first.keys)), ", ".join(map(repr, unused))
        warnings.warn(f"of each record only {used} is used, not {names}", stacklevel=3)
    return ExampleCorpus(first, examples, tokenizer)


def _read_files(paths, column):
    """Yields (form, example, its length in characters, keys of its record that are not used)."""
    for path in paths:
        read = _read_records if suffix_of(path) in RECORD_READERS else _read_plain_text
        for line, form, content, other_keys in read(path, column):
            text = json.dumps(content, ensure_ascii=False)
            if len(text) > MAX_EXAMPLE_CHARS:
                raise _too_long(path, line)
            place = path if line is None else f"{path}, line {line}"
            digest = hashlib.sha256(text.encode()).digest()
            yield form, Example(content, place, digest), len(text), other_keys


def _too_long(path, line=None):
    message = f"expected an example of at most {MAX_EXAMPLE_CHARS:,} characters, got a longer one"
    return mistake(path, line, message, "cut it, or give it alone, as one plain text")


def _read_plain_text(path, column):
    """Yields what `_read_files` needs; a text without a word is left out, as of a record."""
    text = ""
    for part in formats.read_plain_text(path):
        text += part
        if len(text) > MAX_EXAMPLE_CHARS:
            raise _too_long(path)
    if text.strip():
        yield None, DOCUMENT, text, ()


def _read_records(path, column):
    forms = RECORD_FORMS if column is None and suffix_of(path) in JSON_LINES else ()
    column = column or formats.DEFAULT_COLUMN
    for line, record in RECORD_READERS[suffix_of(path)](path, column):
        form = next((form for form in forms if record.keys() >= {*form.keys}), None)
        if form:
            content = _located(form.read, record, path, line)
            yield line, form, content, [key for key in record if key not in form.keys]
        elif forms and column not in record:
            names = ", ".join(map(repr, record)) or "none"
            message = f"expected 'messages', 'prompt' and 'completion', or {column!r}, got {names}"
            raise mistake(path, line, message, "rename them, or choose a text with --column")
        elif text := formats.text_of(record, column, path, line):
            _located(check_unicode, record[column], path, line)
            yield line, DOCUMENT, text, ()


def _located(read, value, path, line):
    """Calls a function, of whose mistakes it says where they are."""
    try:
        return read(value)
    except InputError as error:
        raise mistake(path, line, error) from None
