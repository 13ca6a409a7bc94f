"""A text of any size, and its tokens: those of a large text are made once, kept and mapped."""

import bisect
import contextlib
import dataclasses
import hashlib
import itertools
import math
import mmap
import os
import pathlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from neo_keras.atomic_files import atomic_write, remove_partial
from neo_keras.environment import cache_directory
from neo_keras.errors import FailedError, InputError
from neo_keras.text.tokenizer import Tokenizer

MIN_KEPT_CHARS = 2**23  # what is shorter is encoded in two or three seconds
MIN_SHARD_BYTES = 2**24
MAX_SHARD_BYTES = 2**25
PARTS_PER_CUT = 8  # above the least size, one part of the text in so many ends a shard
MAX_TAIL_CHARS = 1_000_000
MIN_PROGRESS_BYTES = 2**25  # what is shorter takes seconds

_FORMAT = "neo_keras tokens 3"  # of the files, and of how a text is cut and encoded
_HEADER = np.dtype([("format", "S24"), ("num_tokens", "i8"), ("counts", "i8", 3)])
_READS_PER_RELEASE = 500  # of some 64 KB each: a system maps what is near, too


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
        return cls.open(lambda: [text])

    def __len__(self) -> int:
        """In characters."""
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


@contextlib.contextmanager
def _progress(purpose, total):
    """Yields a function to call with how much more was done; a terminal shows how far it is."""
    import rich.progress  # where text is only generated, there need not be this library

    console = rich.get_console()
    hidden = total < MIN_PROGRESS_BYTES or not console.is_terminal
    with rich.progress.Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(purpose, total=total)
        yield lambda amount: bar.advance(task, amount)


class TokenStatistics:
    """A subclass has the counts, each an int or an int array.

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
    # Unsigned int [num_tokens], as narrow as the vocabulary allows; of a large text, in files.
    token_ids: "np.ndarray | ConcatTokens"
    num_chars: int
    num_unknown: int
    unknown_bytes: int

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


@dataclasses.dataclass(frozen=True)
class TokenizedCorpus:
    """What to train on: `EncodedText` twice, or `EncodedPairs`."""

    training: Any
    validation: Any
    num_training_rows: int  # windows or pairs in an epoch
    tokens_per_row: float  # how many tokens of each are predicted, on average
    description: str  # how much there is, for people
    sample_prompts: tuple[str, ...] = ()  # what samples begin with: of pairs, sources
    sample_questions: tuple[str, ...] = ()  # the same for people; none: they are the same


def encode_text(tokenizer: Tokenizer, text: Text) -> EncodedText:
    """Encodes a text on all cores; of a large one the tokens of each shard are kept in a file.

    Raises:
        FailedError: There is no room for the files.
        InputError: The text changed since it was opened.
    """
    if len(text) < MIN_KEPT_CHARS:
        token_ids, counts = _encode(tokenizer, text)
        return EncodedText(token_ids, *counts.tolist())
    index = _file_of(tokenizer.to_json(), text.sha256, str(len(text)), suffix=".index")
    dtype = _dtype_of(tokenizer)
    try:
        paths = map(index.with_name, index.read_text().splitlines())
        arrays, counts = zip(*(read_tokens(path, dtype) for path in paths))
    except (OSError, ValueError):  # some are missing or damaged
        shards = _cut_into_shards(tokenizer, text.parts("encoding the text"))
        encoded = (_encode_shard(tokenizer, shard, before) for before, shard in shards)
        names, arrays, counts = zip(*encoded)
        _write_file(index, "\n".join(names).encode())
    return EncodedText(ConcatTokens(arrays), *np.sum(counts, axis=0).tolist())


def _cut_into_shards(tokenizer, texts):
    """Yields (the character before it, list of parts).

    It is cut by what a part holds: a change of the text moves the next few cuts only.
    """
    before, shard, num_bytes = "", [], 0
    for text in texts:
        data, cut = text.encode(), None
        if num_bytes >= MIN_SHARD_BYTES:
            is_too_long = num_bytes >= MAX_SHARD_BYTES
            if is_too_long or zlib.crc32(data) % PARTS_PER_CUT == 0:
                cut = tokenizer.last_cut(text, anywhere=is_too_long)
        if cut is not None:
            yield before, [*shard, text[:cut]]
            before, shard, num_bytes, text = text[cut - 1], [], 0, text[cut:]
        shard.append(text)
        num_bytes += len(data)
    yield before, shard


def _encode_shard(tokenizer, texts, before):
    """(name of its file, its token ids, their counts)."""
    suffix = ".rest.tokens" if before and tokenizer.adds_prefix else ".tokens"
    path, dtype = _file_of(tokenizer.to_json(), *texts, suffix=suffix), _dtype_of(tokenizer)
    try:
        return path.name, *read_tokens(path, dtype)
    except (OSError, ValueError):  # it is missing or damaged
        write_tokens(path, *_encode(tokenizer, texts, before))
        return path.name, *read_tokens(path, dtype)


def _encode(tokenizer, texts, before=""):
    """(unsigned int [num_tokens], int64 [3]: characters, unknown tokens, their bytes)."""
    parts, counts = [np.empty(0, _dtype_of(tokenizer))], np.zeros(3, "int64")
    for text, token_ids in tokenizer.encode_parts(texts, before):
        parts.append(token_ids.astype(parts[0].dtype))
        counts += len(text), *tokenizer.count_unknown(text, token_ids)
    return np.concatenate(parts), counts


def _dtype_of(tokenizer):
    return np.min_scalar_type(tokenizer.vocab_size - 1)


def token_files_directory() -> pathlib.Path:
    """A cache: anything in it may be deleted at any time."""
    return cache_directory() / "tokens"


def _file_of(*content, suffix=".tokens"):
    digest = hashlib.sha256(_FORMAT.encode())
    for text in content:
        digest.update(text.encode())
    return token_files_directory() / f"{digest.hexdigest()}{suffix}"


def read_tokens(path: os.PathLike, dtype: np.dtype) -> tuple[np.memmap, np.ndarray]:
    """(dtype [num_tokens], mapped; the counts); raises `OSError` or `ValueError` if damaged."""
    (header,) = np.fromfile(path, _HEADER, 1)
    token_ids = np.memmap(path, dtype, "r", offset=_HEADER.itemsize)
    if header["format"] != _FORMAT.encode() or header["num_tokens"] != len(token_ids):
        raise ValueError(f"{path} is damaged")
    _advise(token_ids, "MADV_RANDOM")
    return token_ids, header["counts"]


def _advise(token_ids, name):
    if hasattr(mmap, name):  # not on every system
        token_ids._mmap.madvise(getattr(mmap, name))


def write_tokens(path: os.PathLike, token_ids: np.ndarray, counts: Sequence[int]):
    """Writes token ids and three counts; raises `FailedError` if it cannot."""
    header = np.array((_FORMAT, len(token_ids), counts), _HEADER)
    _write_file(path, header.tobytes(), token_ids)


def _write_file(path, *parts):
    directory = path.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_partial(directory)
        with atomic_write(path) as partial, open(partial, "wb") as file:
            file.writelines(parts)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise FailedError(
            f"cannot write the text's token ids to {directory} ({reason}): make room there, or set "
            "XDG_CACHE_HOME to another directory"
        ) from None


class ConcatTokens:
    """Token ids of one dtype in mapped files, to be read as if they were one array."""

    def __init__(self, arrays: Sequence[np.memmap]):
        self.dtype = arrays[0].dtype
        self._arrays = arrays
        self._stops = list(itertools.accumulate(map(len, arrays)))
        self._num_reads = 0

    def __len__(self) -> int:
        return self._stops[-1]

    def __getitem__(self, span: slice) -> np.ndarray:
        """Token ids that stand side by side: unsigned int [num_tokens]; a step is not allowed."""
        start, stop, step = span.indices(len(self))
        if step != 1:
            raise ValueError(f"expected a slice without a step, got a step of {step}")
        self._num_reads += 1
        if self._num_reads % _READS_PER_RELEASE == 0:
            # Else a text that is larger than memory would, page by page, become this process's.
            for array in self._arrays:
                _advise(array, "MADV_DONTNEED")
        parts, i = [np.empty(0, self.dtype)], bisect.bisect(self._stops, start)
        while start < stop:
            place = start - self._stops[i]  # from the end of the array
            parts.append(self._arrays[i][place:][: stop - start])
            start, i = self._stops[i], i + 1
        return np.concatenate(parts)
