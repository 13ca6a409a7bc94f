"""What a process needs of its machine, whatever its user has set, or has not."""

import atexit
import functools
import os
import pathlib
import shutil
import tempfile


def cache_directory() -> pathlib.Path:
    """Where to keep what can be made again; it need not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # as its specification says
        home = os.path.expanduser("~")  # "~" itself, of a user who has none
        usable = os.path.isabs(home) and os.access(home, os.W_OK)
        cache = os.path.join(home, ".cache") if usable else _temporary_cache()
    return pathlib.Path(cache) / "neo_keras"


@functools.cache
def _temporary_cache():
    directory = tempfile.mkdtemp(prefix="neo_keras-cache-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def prepare_for_keras():
    """Makes Keras what the scripts need; to be called before it is imported, and by scripts only.

    A person may have another backend, data type or limit of steps for all programs, in `keras.json`
    or in the environment: that is not meant for these.
    """
    for name in [name for name in os.environ if name.startswith("KERAS_")]:
        del os.environ[name]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = str(cache_directory() / "keras")
    # Matplotlib complains at length where it can write nowhere.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_directory() / "matplotlib"))
