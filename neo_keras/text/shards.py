"""A text of any size, and the shards it is cut into, whose tokens are kept each in a file."""

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from neo_keras.errors import InputError
from neo_keras.text.chunks import last_boundary
from neo_keras.text.formats import BEGINNING, Offset, Part
from neo_keras.text.progress import progress

MIN_SHARD_BYTES = 2**25
MAX_SHARD_BYTES = 2**26
PARTS_PER_CUT = 8  # above the least size, one part of the text in so many ends a shard
HEAD_CHARS = 1024  # of a shard, kept to see what comes after the one before it
MAX_TAIL_CHARS = 1_000_000  # of a text, kept: a gzip file is else unpacked for them


@dataclasses.dataclass
class Shard:
    """A stretch of a text. The text may end within it."""

    offset: Offset  # where to begin to read
    skip: int  # characters there that come before it
    num_chars: int = 0  # of those in the text
    whole_chars: int = 0  # of all of it
    whole_bytes: int = 0  # the same in UTF-8
    head: str = ""  # its first characters
    digest: Any = dataclasses.field(default_factory=hashlib.sha256)  # of all of it

    def add(self, text: str):
        """Makes it longer."""
        data = text.encode()
        self.num_chars += len(text)
        self.whole_chars += len(text)
        self.whole_bytes += len(data)
        self.head += text[: HEAD_CHARS - len(self.head)]
        self.digest.update(data)


@dataclasses.dataclass(frozen=True)
class Text:
    """A text that may be larger than memory: each iteration reads it, in parts."""

    _read: Callable[[Offset], Iterable[Part]]  # yields (offset, text) from an offset on
    shards: Sequence[Shard]
    sha256: str  # of all that was opened
    tail: str  # its last characters

    @classmethod
    def open(cls, read: Callable[[Offset], Iterable[Part]], num_bytes: int = 0) -> "Text":
        """Reads a whole text once, and cuts it where no token is cut.

        What the text holds says where, and not how much of it came before: so a text that changed,
        or a new file among the others, moves the next few cuts only.

        Args:
            read: Yields (offset, text) from an offset on. A part without an offset is not cut.
            num_bytes: Of the files, to show how far it is.
        """
        read, whole = SequentialReader(read), hashlib.sha256()
        shards, tail = [Shard(BEGINNING, 0)], ""
        with progress("reading the text", num_bytes) as advance:
            for offset, text in read(BEGINNING):
                data = text.encode()
                whole.update(data)
                tail = (tail + text)[-MAX_TAIL_CHARS:]
                advance(len(data))
                cut = _find_cut(text, data, shards[-1].whole_bytes) if offset else None
                if cut:
                    shards[-1].add(text[:cut])
                    shards.append(Shard(offset, cut))
                    text = text[cut:]
                shards[-1].add(text)
        return cls(read, [shard for shard in shards if shard.num_chars], whole.hexdigest(), tail)

    @classmethod
    def in_memory(cls, text: str) -> "Text":
        """A text that is in memory."""
        return cls.open(lambda offset: [(None, text)])

    def __len__(self) -> int:
        """How many characters it has."""
        return sum(shard.num_chars for shard in self.shards)

    def __iter__(self) -> Iterator[str]:
        with progress("reading the text", len(self)) as advance:
            for shard in self.shards:
                for part in self.read_shard(shard):
                    yield part
                    advance(len(part))

    def head(self, num_chars: int) -> "Text":
        """The text of its first characters."""
        shards = []
        for shard in self.shards:
            shard = dataclasses.replace(shard, num_chars=min(shard.num_chars, num_chars))
            num_chars -= shard.num_chars
            shards += [shard] if shard.num_chars else []
        return dataclasses.replace(self, shards=shards)

    def read_shard(self, shard: Shard, start: int = 0) -> Iterator[str]:
        """Yields what the text has of a shard; raises `InputError` where that changed."""
        position, skip, digest = 0, shard.skip, hashlib.sha256()
        for _, text in self._read(shard.offset):
            text, skip = text[skip : skip + shard.whole_chars - position], 0
            digest.update(text.encode())
            if part := text[max(start - position, 0) : max(shard.num_chars - position, 0)]:
                yield part
            position += len(text)
            if position == shard.whole_chars:
                break
        if digest.digest() != shard.digest.digest():
            raise InputError(
                "expected a text that stays as it is, got one that changed while it was read: "
                "start again when nothing writes to it any more"
            )

    def text_after(self, number: int, num_chars: int) -> str:
        """So many characters after a shard, which is given by its number, or those there are."""
        ahead = ""
        for shard in self.shards[number + 1 :]:
            if len(ahead) >= num_chars:
                break
            in_head = num_chars <= HEAD_CHARS
            ahead += shard.head[: shard.num_chars] if in_head else "".join(self.read_shard(shard))
        return ahead[:num_chars]


class SequentialReader:
    """Yields parts from an offset on, as the function that it is given, such as `read_files`.

    It goes on where it stopped, if it is to begin there: a gzip file is else unpacked anew.
    """

    def __init__(self, read: Callable[[Offset], Iterable[Part]]):
        self._read = read
        self._last = self._rest = None

    def __call__(self, offset: Offset) -> Iterator[Part]:
        last, rest = self._last, self._rest
        self._last = None  # while this one reads, another begins anew
        try:
            if last and last[0] == offset:
                yield last
            else:
                last, rest = None, iter(self._read(offset))
            for last in rest:
                yield last
        finally:
            self._last, self._rest = last, rest


def _find_cut(text, data, num_bytes):
    """Where in the text a shard ends that has so many bytes already; None: not here."""
    if num_bytes >= MAX_SHARD_BYTES:
        return last_boundary(text) or len(text)
    if num_bytes >= MIN_SHARD_BYTES and zlib.crc32(data) % PARTS_PER_CUT == 0:
        return last_boundary(text)
    return None
