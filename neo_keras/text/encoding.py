"""A text of any size, its tokens, and what these are in characters."""

import contextlib
import dataclasses
import hashlib
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from neo_keras.errors import InputError
from neo_keras.text import token_cache
from neo_keras.text.token_cache import ConcatTokens
from neo_keras.text.tokenizer import Tokenizer

MIN_KEPT_CHARS = 2**23  # what is shorter is encoded in two or three seconds
MIN_SHARD_BYTES = 2**24
MAX_SHARD_BYTES = 2**25
PARTS_PER_CUT = 8  # above the least size, one part of the text in so many ends a shard
MAX_TAIL_CHARS = 1_000_000
MIN_PROGRESS_BYTES = 2**25  # what is shorter takes seconds


@dataclasses.dataclass(frozen=True)
class Text:
    """A text that may be larger than memory: each iteration reads it, in parts."""

    _read: Callable[[], Iterable[str]]  # returns the parts of all that was opened
    _num_chars: int  # which are the text
    sha256: str  # of all that was opened
    tail: str  # its last characters

    @classmethod
    def open(cls, read: Callable[[], Iterable[str]], num_bytes: int = 0) -> "Text":
        """Reads a text, whose parts `read` returns each time; num_bytes: of its files."""
        digest, num_chars, tail = hashlib.sha256(), 0, ""
        with _progress("reading the text", num_bytes) as advance:
            for part in read():
                data = part.encode()
                digest.update(data)
                num_chars += len(part)
                tail = (tail + part)[-MAX_TAIL_CHARS:]
                advance(len(data))
        return cls(read, num_chars, digest.hexdigest(), tail)

    @classmethod
    def in_memory(cls, text: str) -> "Text":
        """A text that is in memory."""
        return cls.open(lambda: [text])

    def __len__(self) -> int:
        """How many characters it has."""
        return self._num_chars

    def __iter__(self) -> Iterator[str]:
        return self.parts("reading the text")

    def parts(self, purpose: str) -> Iterator[str]:
        """Yields the parts, and shows how far it is; raises `InputError` where they changed."""
        num_left, digest = len(self), hashlib.sha256()
        with _progress(purpose, len(self)) as advance:
            for part in self._read():
                digest.update(part.encode())
                if num_left:
                    part = part[:num_left]
                    yield part
                    num_left -= len(part)
                    advance(len(part))
        if digest.hexdigest() != self.sha256:
            raise InputError(
                "expected a text that stays as it is, got one that changed while it was read: "
                "start again when nothing writes to it any more"
            )

    def head(self, num_chars: int) -> "Text":
        """The text of its first characters."""
        return dataclasses.replace(self, _num_chars=num_chars)


class TokenStatistics:
    """What tokens are in characters; a subclass has the counts, each an int or an int array.

    They are `num_tokens`, `num_chars`, `num_unknown` (tokens), and `unknown_bytes` (what these
    stand for, with a byte for the end of each).
    """

    @property
    def tokens_per_char(self) -> float:
        return float(np.sum(self.num_tokens) / np.sum(self.num_chars))

    @property
    def unknown_share(self) -> float:
        """Of the tokens, 0 .. 1."""
        return float(np.sum(self.num_unknown) / np.sum(self.num_tokens))

    def bits_per_char(self, loss: float) -> float:
        """Of a loss in nats per token; what is unknown takes 8 bits for each of its bytes, too."""
        bits = loss / math.log(2) * np.sum(self.num_tokens) + 8 * np.sum(self.unknown_bytes)
        return float(bits / np.sum(self.num_chars))


@dataclasses.dataclass(frozen=True)
class EncodedText(TokenStatistics):
    """The tokens of a text."""

    # Unsigned int [num_tokens], as narrow as the vocabulary allows; of a large text, in files.
    token_ids: np.ndarray | ConcatTokens
    num_chars: int
    num_unknown: int
    unknown_bytes: int

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


@dataclasses.dataclass(frozen=True)
class TokenizedCorpus:
    """What to train on, as token ids: `EncodedText` twice, or `EncodedPairs`."""

    training: Any
    validation: Any
    num_training_rows: int  # windows or pairs in an epoch
    tokens_per_row: float  # how many tokens of each are predicted, on average
    description: str  # how much there is, for people
    sample_prompt: str = ""  # what samples begin with while training: of pairs, a source


def encode_text(tokenizer: Tokenizer, text: Text) -> EncodedText:
    """Encodes a text on all cores; of a large one the tokens of each shard are kept in a file.

    Raises:
        FailedError: There is no room for the files.
        InputError: The text changed since it was opened.
    """
    if len(text) < MIN_KEPT_CHARS:
        token_ids, counts = _encode(tokenizer, text)
        return EncodedText(token_ids, *counts.tolist())
    content, dtype = (tokenizer.to_json(), text.sha256, str(len(text))), _dtype_of(tokenizer)
    index = token_cache.file_of(*content, suffix=".index")
    try:
        paths = map(index.with_name, index.read_text().splitlines())
        arrays, counts = zip(*(token_cache.read_tokens(path, dtype) for path in paths))
    except (OSError, ValueError):  # some are missing or damaged
        shards = _cut_into_shards(tokenizer, text.parts("encoding the text"))
        names, arrays, counts = zip(*(_encode_shard(tokenizer, shard) for shard in shards))
        token_cache.write_file(index, "\n".join(names).encode())
    return EncodedText(ConcatTokens(arrays), *np.sum(counts, axis=0).tolist())


def _cut_into_shards(tokenizer, texts):
    """Yields lists of parts, cut by what a part holds: a change moves the next few cuts only."""
    shard, num_bytes = [], 0
    for text in texts:
        data, cut = text.encode(), None
        if num_bytes >= MIN_SHARD_BYTES:
            is_too_long = num_bytes >= MAX_SHARD_BYTES
            if is_too_long or zlib.crc32(data) % PARTS_PER_CUT == 0:
                cut = tokenizer.last_cut(text, anywhere=is_too_long)
        if cut is not None:
            yield [*shard, text[:cut]]
            shard, num_bytes, text = [], 0, text[cut:]
        shard.append(text)
        num_bytes += len(data)
    yield shard


def _encode_shard(tokenizer, texts):
    """(name of its file, its token ids, their counts); encodes it if there is no file."""
    path, dtype = token_cache.file_of(tokenizer.to_json(), *texts), _dtype_of(tokenizer)
    try:
        return path.name, *token_cache.read_tokens(path, dtype)
    except (OSError, ValueError):  # it is missing or damaged
        token_cache.write_tokens(path, *_encode(tokenizer, texts))
        return path.name, *token_cache.read_tokens(path, dtype)


def _encode(tokenizer, texts):
    """(unsigned int [num_tokens], int64 [3]: characters, unknown tokens, their bytes)."""
    parts, counts = [np.empty(0, _dtype_of(tokenizer))], np.zeros(3, "int64")
    for text, token_ids in tokenizer.encode_parts(texts):
        parts.append(token_ids.astype(parts[0].dtype))
        counts += len(text), *tokenizer.count_unknown(text, token_ids)
    return np.concatenate(parts), counts


def _dtype_of(tokenizer):
    return np.min_scalar_type(tokenizer.vocab_size - 1)


@contextlib.contextmanager
def _progress(purpose, total):
    """Yields a function to call with how much more was done; a terminal shows how far it is."""
    import rich.progress  # where text is only generated, there need not be this library

    console = rich.get_console()
    columns = rich.progress.Progress.get_default_columns()
    hidden = total < MIN_PROGRESS_BYTES or not console.is_terminal
    with rich.progress.Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(purpose, total=total)
        yield lambda amount: bar.advance(task, amount)
