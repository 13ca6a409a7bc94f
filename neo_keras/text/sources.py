"""Finds the files of a text, whatever a person names: files, folders, patterns, a pipe."""

import contextlib
import errno
import fnmatch
import hashlib
import http.client
import os
import pathlib
import re
import shutil
import stat
import sys
import urllib.request
from collections.abc import Sequence

from neo_keras.atomic_files import atomic_write
from neo_keras.environment import cache_directory, temporary_directory
from neo_keras.errors import FailedError, InputError

# Sources that are no paths.
STDIN = "-"  # and how a run remembers a text that came through a pipe
TINY_SHAKESPEARE = "tiny-shakespeare"
TINY_SHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
_TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
# What says that there is nothing of a name; Windows says that a pattern cannot be a name.
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)


def find_files(sources: Sequence[str]) -> list[str]:
    """Finds the files that sources stand for; of a pipe a copy.

    Args:
        sources: Files; folders, for every file below; patterns such as "a/**/*.txt", unless a
            part exists under that very name; "-" for stdin; "tiny-shakespeare". Folders and
            patterns leave out what is hidden, and run directories.

    Returns:
        Paths, each file once, in the order of the sources and in natural order (2 before 10).

    Raises:
        InputError: A source is missing or unreadable.
        FailedError: There is no room for a copy.
    """
    paths = {}
    with reading_sources():
        for source in sources:
            for path in _find(source):
                paths.setdefault(os.path.realpath(path), path)
    return list(paths.values())


def sources_to_save(sources: Sequence[str]) -> list[str]:
    """What to call sources later, and in another directory."""
    names = [STDIN if _is_pipe(source) else source for source in sources]
    no_paths = (STDIN, TINY_SHAKESPEARE)
    return [name if name in no_paths else os.path.abspath(name) for name in names]


def saved_sources(names: Sequence[str]) -> Sequence[str]:
    """Returns what `sources_to_save` did; raises `InputError` if one came through a pipe."""
    if STDIN in names:
        raise InputError(
            "the text of this run came through a pipe, and is not kept: give it again with --data"
        )
    return names


@contextlib.contextmanager
def reading_sources():
    """Turns the `OSError` of what cannot be read into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"expected a readable file or folder, got {error.strerror or error} at "
            f"{error.filename}; change its permissions, or pass another with --data"
        ) from error


def _find(source):
    if source == TINY_SHAKESPEARE:
        return [_download_tiny_shakespeare()]
    if _is_pipe(source):
        return [_copy_of_pipe(source)]
    mode = _mode(source)
    if stat.S_ISREG(mode):
        return [source]
    place = (source, ["**"]) if stat.S_ISDIR(mode) else ("", pathlib.Path(source).parts)
    files = sorted(_matching(*place), key=_natural_order)
    if not files:
        raise InputError(
            "expected a file, a folder of files or a glob such as 'texts/**/*.txt', got "
            f"{source!r}, where there is no file (but hidden ones, or a run's); check --data"
        )
    return files


def _matching(folder, parts, above=()):
    """As Python's `glob`, but a folder is not searched within itself, however links go."""
    if not parts:
        if stat.S_ISREG(_mode(folder)):
            yield folder
        return
    part, *rest = parts
    path = os.path.join(folder, part)
    if part == "**":
        real = os.path.realpath(folder)
        if real not in above and not _is_run(folder):
            yield from _matching(folder, rest or ["*"])
            for path in (os.path.join(folder, name) for name in _visible_names(folder)):
                if stat.S_ISDIR(_mode(path)):
                    yield from _matching(path, parts, (*above, real))
    elif _mode(path):
        yield from _matching(path, rest)
    elif re.search("[*?[]", part):
        for name in _visible_names(folder, even_hidden=part.startswith(".")):
            path = os.path.join(folder, name)
            if fnmatch.fnmatch(name, part) and not _is_run(path):
                yield from _matching(path, rest)


def _visible_names(folder, even_hidden=False):
    folder = folder or os.curdir
    names = os.listdir(folder) if stat.S_ISDIR(_mode(folder)) else []
    return [name for name in names if even_hidden or not name.startswith(".")]


def _is_run(folder):
    try:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            return '"format": "neo_keras run' in file.read(100)
    except (OSError, ValueError):
        return False


def _mode(path):
    """Of what a path leads to; 0 if there is nothing."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        if error.errno in _ABSENT:
            return 0
        raise


def _natural_order(path):
    return [int(p) if i % 2 else p for i, p in enumerate(re.split("([0-9]+)", path))], path


def _is_pipe(source):
    return source in (STDIN, "/dev/stdin") or stat.S_ISFIFO(_mode(source))


def _copy_of_pipe(source):
    is_stdin = source in (STDIN, "/dev/stdin")
    if is_stdin and sys.stdin is None:
        raise InputError("expected a text on stdin, got none: it is closed; give a file")
    folder = temporary_directory()
    path = os.path.join(folder, "stdin" if is_stdin else os.path.basename(source))
    try:
        pipe = contextlib.nullcontext(sys.stdin.buffer) if is_stdin else open(source, "rb")
        with pipe as stream, open(path, "wb") as file:
            shutil.copyfileobj(stream, file)
    except OSError as error:
        raise FailedError(
            f"cannot keep what comes through {source} in {folder} ({error.strerror}): make room "
            "there, set TMPDIR to another directory, or give a file"
        ) from None
    return path


def _download_tiny_shakespeare():
    path = cache_directory() / "tinyshakespeare.txt"
    if path.exists():
        return str(path)
    try:
        with urllib.request.urlopen(TINY_SHAKESPEARE_URL, timeout=60) as response:
            data = response.read()
        if hashlib.sha256(data).hexdigest() != _TINY_SHAKESPEARE_SHA256:
            raise OSError("another file, by its SHA-256")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            partial.write_bytes(data)
    except (OSError, http.client.HTTPException) as error:
        raise InputError(
            f"expected to download tiny-shakespeare, got: {error}; "
            f"download {TINY_SHAKESPEARE_URL} elsewhere and pass it with --data FILE"
        ) from error
    return str(path)
