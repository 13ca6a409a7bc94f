"""Cuts a text of any size into shards, whose tokens are kept each in a file of its own."""

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Iterable

from neo_keras.text import tokenizer_models
from neo_keras.text.readers import BEGINNING, Offset

MIN_SHARD_BYTES = 2**25
MAX_SHARD_BYTES = 2**26
PARTS_PER_CUT = 8  # above the least size, one part of the text in so many ends a shard


@dataclasses.dataclass(frozen=True)
class Shard:
    """A stretch of a text.

    Attributes:
        place: Where to begin to read.
        skip: Characters there that come before it.
        start: Characters of the text that come before it.
        num_chars: Its own.
        sha256: Of its text.
    """

    place: Offset
    skip: int
    start: int
    num_chars: int
    sha256: str

    @property
    def stop(self) -> int:
        return self.start + self.num_chars


def cut_into_shards(
    parts: Iterable[tuple[Offset | None, str]], advance: Callable[[int], None]
) -> tuple[list[Shard], str]:
    """Reads a text once, and cuts it where no token is cut.

    What the text holds says where, and not how much of it came before: so a text that changed, or a
    new file among the others, moves the next few cuts only.

    Args:
        parts: As `read_files` yields them. A part without a place is not cut.
        advance: Called with the number of bytes that were read.

    Returns:
        (The shards, at least one; the SHA-256 of the whole text.)
    """
    shards, whole, draft = [], hashlib.sha256(), _ShardBuilder(BEGINNING, 0, 0)
    for place, text in parts:
        data = text.encode()
        whole.update(data)
        advance(len(data))
        if place and (cut := _find_cut(text, data, draft.num_bytes)):
            draft.add(text[:cut], text[:cut].encode())
            shards.append(draft.shard())
            draft = _ShardBuilder(place, cut, draft.start + draft.num_chars)
            text = text[cut:]
            data = text.encode()
        draft.add(text, data)
    if draft.num_chars or not shards:
        shards.append(draft.shard())
    return shards, whole.hexdigest()


def _find_cut(text, data, num_bytes):
    """Where in the text a shard ends that has so many bytes already; None: not here."""
    if num_bytes >= MAX_SHARD_BYTES:
        return tokenizer_models.last_boundary(text) or len(text)
    if num_bytes >= MIN_SHARD_BYTES and zlib.crc32(data) % PARTS_PER_CUT == 0:
        return tokenizer_models.last_boundary(text)
    return None


class _ShardBuilder:
    """A shard that is not complete."""

    def __init__(self, place, skip, start):
        self.place, self.skip, self.start = place, skip, start
        self.num_chars = self.num_bytes = 0
        self.digest = hashlib.sha256()

    def add(self, text, data):
        self.num_chars += len(text)
        self.num_bytes += len(data)
        self.digest.update(data)

    def shard(self):
        return Shard(self.place, self.skip, self.start, self.num_chars, self.digest.hexdigest())
