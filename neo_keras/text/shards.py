"""A text of any size, and the shards it is cut into, whose tokens are kept each in a file."""

import bisect
import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from neo_keras.errors import InputError
from neo_keras.text.chunks import last_boundary
from neo_keras.text.formats import BEGINNING, Offset, Part
from neo_keras.text.progress import progress

MIN_SHARD_BYTES = 2**25
MAX_SHARD_BYTES = 2**26
PARTS_PER_CUT = 8  # above the least size, one part of the text in so many ends a shard
HEAD_CHARS = 1024  # of a shard, kept to see what comes after the one before it


@dataclasses.dataclass
class Shard:
    """A stretch of a text.

    Attributes:
        offset: Where to begin to read.
        skip: Characters there that come before it.
        start: Characters of the text that come before it.
        num_chars: Its own.
        num_bytes: Its own, in UTF-8.
        sha256: Of its text.
        head: Its first characters.
    """

    offset: Offset
    skip: int
    start: int
    num_chars: int = 0
    num_bytes: int = 0
    head: str = ""

    def __post_init__(self):
        self._digest = hashlib.sha256()

    def add(self, text: str):
        """Makes it longer."""
        data = text.encode()
        self.num_chars += len(text)
        self.num_bytes += len(data)
        self.head += text[: HEAD_CHARS - len(self.head)]
        self._digest.update(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    @property
    def stop(self) -> int:
        return self.start + self.num_chars


def cut_into_shards(
    parts: Iterable[Part], advance: Callable[[int], None]
) -> tuple[list[Shard], str]:
    """Reads a text once, and cuts it where no token is cut.

    What the text holds says where, and not how much of it came before: so a text that changed, or a
    new file among the others, moves the next few cuts only.

    Args:
        parts: As `read_files` yields them. A part without an offset is not cut.
        advance: Called with the number of bytes that were read.

    Returns:
        (The shards, at least one; the SHA-256 of the whole text.)
    """
    whole, shards = hashlib.sha256(), [Shard(BEGINNING, 0, 0)]
    for offset, text in parts:
        data = text.encode()
        whole.update(data)
        advance(len(data))
        cut = _find_cut(text, data, shards[-1].num_bytes) if offset else None
        if cut:
            shards[-1].add(text[:cut])
            shards.append(Shard(offset, cut, shards[-1].stop))
            text = text[cut:]
        shards[-1].add(text)
    if len(shards) > 1 and not shards[-1].num_chars:
        shards.pop()
    return shards, whole.hexdigest()


def _find_cut(text, data, num_bytes):
    """Where in the text a shard ends that has so many bytes already; None: not here."""
    if num_bytes >= MAX_SHARD_BYTES:
        return last_boundary(text) or len(text)
    if num_bytes >= MIN_SHARD_BYTES and zlib.crc32(data) % PARTS_PER_CUT == 0:
        return last_boundary(text)
    return None


class Text:
    """A text that may be larger than memory: it is read, in parts, each time it is iterated over.

    Args:
        read: A function that yields (offset, text) from an offset on, as `read_files`.
        shards: Of the whole of that text.
        sha256: Of the whole of that text.
        start: Where in that text this one begins, in characters.
        stop: Where it ends; None: where the text ends.
    """

    def __init__(
        self,
        read: Callable[[Offset], Iterable[Part]],
        shards: Sequence[Shard],
        sha256: str,
        start: int = 0,
        stop: int | None = None,
    ):
        self._read, self._shards, self.sha256 = read, shards, sha256
        self._start, self._stop = start, shards[-1].stop if stop is None else stop

    @classmethod
    def in_memory(cls, text: str) -> "Text":
        """A text that is in memory."""
        parts = [(None, text)]
        return cls(lambda offset: parts, *cut_into_shards(parts, lambda num_bytes: None))

    def __len__(self) -> int:
        """How many characters it has."""
        return self._stop - self._start

    def __iter__(self) -> Iterator[str]:
        with progress("reading the text", len(self)) as advance:
            for part in self.parts():
                yield part
                advance(len(part))

    def parts(self) -> Iterator[str]:
        """Yields its parts, and shows nothing."""
        shard = self._shard_at(self._start)
        position = shard.start - shard.skip
        for _, text in self._read(shard.offset):
            if part := text[max(self._start - position, 0) : self._stop - position]:
                yield part
            position += len(text)
            if position >= self._stop:
                return

    def span(self, start: int, stop: int) -> "Text":
        """A part of it, from and to a character of the whole text."""
        return Text(self._read, self._shards, self.sha256, start, stop)

    def split(self, num_chars: int) -> tuple["Text", "Text"]:
        """Its first characters, and the others."""
        cut = self._start + num_chars
        return self.span(self._start, cut), self.span(cut, self._stop)

    def shard_spans(self) -> Iterator["ShardSpan"]:
        """What it has of each shard, in order."""
        for shard in self._shards:
            start, stop = max(self._start, shard.start), min(self._stop, shard.stop)
            if start < stop:
                yield ShardSpan(self, shard, start - shard.start, stop - shard.start)

    def read_ahead(self, start: int, num_chars: int) -> str:
        """So many characters from one of the whole text on, or those that there are."""
        num_chars = min(num_chars, self._stop - start)
        if num_chars <= 0:
            return ""
        shard = self._shard_at(start)
        if start == shard.start and num_chars <= len(shard.head):
            return shard.head[:num_chars]
        return "".join(self.span(start, start + num_chars).parts())

    def _shard_at(self, position):
        return self._shards[bisect.bisect(self._shards, position, key=lambda s: s.start) - 1]


@dataclasses.dataclass(frozen=True)
class ShardSpan:
    """What a text has of a shard, from and to a character: all of it, but at the text's ends."""

    text: Text
    shard: Shard
    start: int
    stop: int

    @property
    def num_chars(self) -> int:
        return self.stop - self.start

    def without(self, num_chars: int) -> "ShardSpan":
        """The same span without its first characters."""
        return dataclasses.replace(self, start=self.start + num_chars)

    def read(self) -> Iterator[str]:
        """Yields the parts of its text; raises `InputError` if the shard is not what it was."""
        digest, position = hashlib.sha256(), 0
        for text in self.text.span(self.shard.start, self.shard.stop).parts():
            digest.update(text.encode())
            if part := text[max(self.start - position, 0) : max(self.stop - position, 0)]:
                yield part
            position += len(text)
        if digest.hexdigest() != self.shard.sha256:
            raise InputError(
                "expected a text that stays as it is, got one that changed while it was read: "
                "start again when nothing writes to it any more"
            )

    def read_ahead(self, num_chars: int) -> str:
        """So many characters of the text after the shard, or those that there are."""
        return self.text.read_ahead(self.shard.stop, num_chars)
