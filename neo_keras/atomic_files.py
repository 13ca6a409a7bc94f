"""Files appear at their final name only when they are complete."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time

from neo_keras.errors import FailedError, InputError

PARTIAL_PREFIX = ".partial-"  # of files that are being written; a killed process leaves them


@contextlib.contextmanager
def atomic_write(path):
    """Yields the path of a file or directory to make, which replaces `path` if the block succeeds.

    An error, such as the `OSError` of a full disk, names `path`.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{path.name}")
    try:
        yield partial
        _replace(partial, path)
    except (InputError, FailedError) as error:
        raise type(error)(str(error).replace(partial.name, path.name)) from None
    except OSError as error:
        reason = str(error.strerror or error).replace(partial.name, path.name)
        message = f"cannot write {path} ({reason})"
        message += "; what stood there is as it was" if path.exists() else ""
        raise OSError(error.errno, message) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # a directory
        with contextlib.suppress(OSError):
            partial.unlink()


def _replace(partial, path):
    if not path.is_dir():
        os.replace(partial, path)
        return
    earlier = partial.with_name(f"{partial.name}-earlier")  # no directory replaces another at once
    os.replace(path, earlier)
    try:
        os.replace(partial, path)
    finally:
        if not path.exists():
            os.replace(earlier, path)
    shutil.rmtree(earlier, ignore_errors=True)


def remove_partial(directory, min_age=86_400):
    """Removes what killed processes were writing.

    min_age: in seconds; what is younger may still be written, unless a lock says otherwise.
    """
    for path in directory.glob(f"{PARTIAL_PREFIX}*"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if not min_age or time.time() - path.stat().st_mtime > min_age:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def plainly_named(directory):
    """Yields the path of a directory, or of a link to it: TensorFlow opens UTF-8 glob patterns."""
    path = os.fspath(directory)
    if not re.search(r"[][*?\\]|[\ud800-\udfff]", path) or os.name == "nt":
        yield path
        return
    with tempfile.TemporaryDirectory() as links:
        link = os.path.join(links, "directory")
        os.symlink(os.path.abspath(path), link)
        yield link


def parse_json(text):
    """As `json.loads`, but raises a `ValueError` for endless nesting, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_text(path, text):
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2) + "\n")
