"""A text of any size, and the shards it is cut into, whose tokens are kept each in a file."""

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from neo_keras.errors import InputError
from neo_keras.text.chunks import last_boundary
from neo_keras.text.formats import BEGINNING, Offset, Part, SequentialReader
from neo_keras.text.progress import progress

Reader = Callable[[Offset], Iterable[Part]]

MIN_SHARD_BYTES = 2**25
MAX_SHARD_BYTES = 2**26
PARTS_PER_CUT = 8  # above the least size, one part of the text in so many ends a shard
HEAD_CHARS = 1024  # of a shard, kept to see what comes after the one before it


@dataclasses.dataclass
class Shard:
    """A stretch of a text."""

    offset: Offset  # where to begin to read
    skip: int  # characters there that come before it
    num_chars: int = 0
    num_bytes: int = 0  # in UTF-8
    head: str = ""  # its first characters

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


@dataclasses.dataclass(frozen=True)
class ShardSpan:
    """What a text has of a shard, from and to a character: all of it, but at the text's ends."""

    shard: Shard
    start: int
    stop: int

    @property
    def num_chars(self) -> int:
        return self.stop - self.start

    def split(self, num_chars: int) -> tuple["ShardSpan", "ShardSpan"]:
        """Its first characters, or those that there are, and the others."""
        cut = self.start + min(num_chars, self.num_chars)
        return ShardSpan(self.shard, self.start, cut), ShardSpan(self.shard, cut, self.stop)


class Text:
    """A text that may be larger than memory: it is read, in parts, each time it is iterated over.

    Args:
        read: A function that yields (offset, text) from an offset on, as `read_files`.
        spans: What it has of each shard, in order.
        sha256: Of the whole text that `read` reads.
    """

    def __init__(self, read: Reader, spans: Sequence[ShardSpan], sha256: str):
        self._read, self.spans, self.sha256 = read, spans, sha256

    @classmethod
    def open(cls, read: Reader, seen: Callable[[str, int], None]) -> "Text":
        """Reads a whole text once, and cuts it where no token is cut.

        What the text holds says where, and not how much of it came before: so a text that changed,
        or a new file among the others, moves the next few cuts only.

        Args:
            read: As above. A part without an offset is not cut.
            seen: Called with each part, and how many bytes it has.
        """
        read, whole, shards = SequentialReader(read), hashlib.sha256(), [Shard(BEGINNING, 0)]
        for offset, text in read(BEGINNING):
            data = text.encode()
            whole.update(data)
            seen(text, len(data))
            cut = _find_cut(text, data, shards[-1].num_bytes) if offset else None
            if cut:
                shards[-1].add(text[:cut])
                shards.append(Shard(offset, cut))
                text = text[cut:]
            shards[-1].add(text)
        spans = [ShardSpan(shard, 0, shard.num_chars) for shard in shards if shard.num_chars]
        return cls(read, spans, whole.hexdigest())

    @classmethod
    def in_memory(cls, text: str) -> "Text":
        """A text that is in memory."""
        return cls.open(lambda offset: [(None, text)], lambda text, num_bytes: None)

    def __len__(self) -> int:
        """How many characters it has."""
        return sum(span.num_chars for span in self.spans)

    def __iter__(self) -> Iterator[str]:
        with progress("reading the text", len(self)) as advance:
            for span in self.spans:
                for part in self.read_span(span):
                    yield part
                    advance(len(part))

    def split(self, num_chars: int) -> tuple["Text", "Text"]:
        """Its first characters, and the others."""
        first, second = [], []
        for span in self.spans:
            head, tail = span.split(num_chars)
            num_chars -= head.num_chars
            first += [head] if head.num_chars else []
            second += [tail] if tail.num_chars else []
        return Text(self._read, first, self.sha256), Text(self._read, second, self.sha256)

    def read_span(self, span: ShardSpan) -> Iterator[str]:
        """Yields the parts of a span; raises `InputError` if its shard is not what it was."""
        shard, digest = span.shard, hashlib.sha256()
        position = -shard.skip  # in the shard, where the next part begins
        for _, text in self._read(shard.offset):
            own = text[max(-position, 0) : shard.num_chars - position]
            digest.update(own.encode())
            start = max(position, 0)
            if part := own[max(span.start - start, 0) : max(span.stop - start, 0)]:
                yield part
            position += len(text)
            if position >= shard.num_chars:
                break
        if digest.hexdigest() != shard.sha256:
            raise InputError(
                "expected a text that stays as it is, got one that changed while it was read: "
                "start again when nothing writes to it any more"
            )

    def text_after(self, number: int, num_chars: int) -> str:
        """So many characters after a span, which is given by its number, or those there are."""
        ahead = ""
        for span in self.spans[number + 1 :]:
            is_in_head = num_chars <= HEAD_CHARS and span.start == 0
            parts = [span.shard.head[: span.stop]] if is_in_head else self.read_span(span)
            for part in parts:
                ahead += part
                if len(ahead) >= num_chars:
                    return ahead[:num_chars]
        return ahead


def _find_cut(text, data, num_bytes):
    """Where in the text a shard ends that has so many bytes already; None: not here."""
    if num_bytes >= MAX_SHARD_BYTES:
        return last_boundary(text) or len(text)
    if num_bytes >= MIN_SHARD_BYTES and zlib.crc32(data) % PARTS_PER_CUT == 0:
        return last_boundary(text)
    return None
