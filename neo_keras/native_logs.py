"""Keeps the chatter of native libraries off the terminal, unless something fails."""

import atexit
import contextlib
import functools
import os
import subprocess
import sys
import tempfile

from neo_keras.errors import InputError

LAST_WORDS = (
    "error: the process died while TensorFlow or LiteRT was at work; what they wrote is above"
)


@contextlib.contextmanager
def native_log_hidden():
    """Holds back stderr, of C++ code too; shows it if the block fails or the process dies."""
    if (visible := _copy_of_stderr()) is None:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    with (
        tempfile.NamedTemporaryFile(prefix="neo_keras-") as log,
        open(log.fileno(), "w", buffering=1, closefd=False) as text_log,
        _shown_after_death(log.name, visible),
    ):
        os.dup2(log.fileno(), 2)
        try:
            with contextlib.redirect_stderr(text_log):  # in a notebook it is not descriptor 2
                yield
        except InputError:  # which says all
            raise
        except Exception:  # not Ctrl-C
            text_log.flush()
            log.seek(0)
            os.write(visible, log.read())
            raise
        finally:
            os.dup2(visible, 2)
            os.close(visible)


def _copy_of_stderr():
    """A descriptor, or None: Python began without stderr, and 2 may be a file of the user's."""
    try:
        return None if sys.__stderr__ is None else os.dup(2)
    except OSError:  # closed since
        return None


@contextlib.contextmanager
def _shown_after_death(log_path, visible):
    """Shows a log if this process dies within the block, by a shell that waits at a pipe."""
    script = f'read _; cat "$0"; echo "{LAST_WORDS}"; rm -f "$0"'
    try:
        streams = {"stdin": subprocess.PIPE, "stdout": visible, "start_new_session": True}
        shell = subprocess.Popen(["sh", "-c", script, log_path], **streams)  # Ctrl-C is not for it
    except OSError:  # there is no shell
        yield
        return
    with shell:
        try:
            yield
        finally:
            shell.kill()


@functools.cache
def hide_native_farewell():
    """Drops what LiteRT writes to stderr while the process ends, after Python's last words."""
    if sys.__stderr__ is not None:
        atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def import_tensorflow():
    """Imports TensorFlow with oneDNN and without greetings; call it before anything else does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what fails raises a Python exception
    # Where a CPU has no AVX-512, TensorFlow leaves them out, though they are the faster ones.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        with native_log_hidden():
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"this needs TensorFlow ({error}): pip install -r requirements.txt; a .tflite file "
            "does without"
        ) from None
