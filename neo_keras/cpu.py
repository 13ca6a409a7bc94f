"""What this machine's CPU has."""

import os
import pathlib
import platform
import sys

CPUINFO = pathlib.Path("/proc/cpuinfo")


def num_cores():
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_features():
    """A set of the instruction sets that Linux names, such as "avx512_bf16"; else an empty one."""
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    names = ("flags", "Features")  # of x86, and of ARM64
    return {word for line in lines if line.startswith(names) for word in line.split()[2:]}


def runs_compiled_model():
    """Whether LiteRT's `CompiledModel` runs here.

    It loads a library for graphics cards, whatever one asks for, and that ends the process with
    SIGILL on an ARM64 CPU without atomic instructions (LSE): a Cortex-A53 or A72, which is what a
    Raspberry Pi 3 or 4 has.
    """
    is_arm64_linux = sys.platform == "linux" and platform.machine() == "aarch64"
    return not is_arm64_linux or "atomics" in cpu_features()
