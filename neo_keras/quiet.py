"""Keeps the chatter of native libraries off the terminal, unless something fails."""

import atexit
import contextlib
import functools
import os
import sys
import tempfile

from neo_keras.errors import InputError


@contextlib.contextmanager
def native_log_hidden():
    """Holds back what is written to stderr, by C++ code too; shows it if the block fails.

    TensorFlow and LiteRT write lines at start-up and conversion that no environment variable
    stops, and that frighten newcomers.
    """
    sys.stderr.flush()
    visible = os.dup(2)
    with tempfile.TemporaryFile() as log, open(log.fileno(), "w", closefd=False) as text_log:
        os.dup2(log.fileno(), 2)
        try:
            with contextlib.redirect_stderr(text_log):  # in a notebook it is not descriptor 2
                yield
        except BaseException:
            text_log.flush()
            log.seek(0)
            os.write(visible, log.read())
            raise
        finally:
            os.dup2(visible, 2)
            os.close(visible)


@functools.cache
def hide_native_farewell():
    """Drops what LiteRT writes to stderr while the process ends, after Python's last words."""
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def import_tensorflow():
    """Imports TensorFlow without its greetings; call it before anything else does."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what fails raises a Python exception
    try:
        with native_log_hidden():
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"this needs TensorFlow ({error}): pip install -r requirements.txt; a .tflite file "
            "does without"
        ) from None
