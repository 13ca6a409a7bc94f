"""The machine that a process runs on, whatever its user has set, or has not."""

import atexit
import contextlib
import ctypes
import functools
import os
import pathlib
import platform
import re
import shutil
import sys
import tempfile

CPUINFO = pathlib.Path("/proc/cpuinfo")
# Of glibc's mallopt(3): what to take from the kernel apart, what to give back, what to take ahead.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD = -3, -1, -2


def cache_directory() -> pathlib.Path:
    """Where to keep what can be made again; it need not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # as its specification says
        home = os.path.expanduser("~")  # "~" itself, of a user who has none
        usable = os.path.isabs(home) and os.access(home, os.W_OK)
        cache = os.path.join(home, ".cache") if usable else _temporary_cache()
    return pathlib.Path(cache) / "neo_keras"


def temporary_directory() -> str:
    """Makes a directory that goes when this process does."""
    directory = tempfile.mkdtemp(prefix="neo_keras-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


_temporary_cache = functools.cache(temporary_directory)


def prepare_for_keras():
    """Makes Keras what the scripts need, whatever a person has set; call it before the import."""
    for name in [name for name in os.environ if name.startswith("KERAS_")]:
        del os.environ[name]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["KERAS_HOME"] = str(cache_directory() / "keras")
    # Matplotlib complains at length where it can write nowhere.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_directory() / "matplotlib"))


def keep_memory():
    """Makes glibc keep the memory that is freed, as each step of a training needs as much again.

    Else it gives every tensor of some size back to the kernel, which must clear each page anew: a
    fifth of a step on some CPUs.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # other systems' C libraries
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2**28)


def num_cores():
    """How many CPU cores this process may use."""
    can_tell = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if can_tell else os.cpu_count() or 1


def cpu_features():
    """A set of the instruction sets that Linux names, such as "avx512_bf16"; else an empty one."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    names = ("flags", "Features")  # of x86, and of ARM64
    return {word for line in lines if line.startswith(names) for word in line.split()[2:]}


def cpu_name():
    """What Linux calls the CPU, such as "AMD EPYC"; elsewhere what Python knows."""
    with contextlib.suppress(OSError):
        if match := re.search("^model name.*: (.+)", CPUINFO.read_text(), re.MULTILINE):
            return match[1]
    return platform.processor() or platform.machine()


def runs_compiled_model():
    """Whether LiteRT's `CompiledModel` runs here: on ARM64 it needs atomics (LSE), else SIGILL."""
    is_arm64_linux = sys.platform == "linux" and platform.machine() == "aarch64"
    return not is_arm64_linux or "atomics" in cpu_features()
