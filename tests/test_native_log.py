"""What native code writes to stderr is held back, and never lost."""

import signal
import subprocess
import sys

import pytest
from tiny_models import ROOT
from waits import HANG_SECONDS

from neo_keras.native_logs import LAST_WORDS

BLOCK = """
import os, sys
from neo_keras.native_logs import native_log_hidden

with native_log_hidden():
    print("Python's words", file=sys.stderr)
    os.write(2, b"C++'s words\\n")
    {end}
print("after", file=sys.stderr)
"""
WORDS = "Python's words\nC++'s words\n"


def end_block(end, directory):
    """(exit code, stderr) of a process in which a block ends so; `directory` is for its files."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK.format(end=end)],
        cwd=ROOT,
        env={"TMPDIR": str(directory)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert list(directory.iterdir()) == []
    return done.returncode, done.stderr


def test_nothing_is_shown_of_what_succeeds(tmp_path):
    assert end_block("pass", tmp_path) == (0, "after\n")


def test_all_is_shown_of_what_raises(tmp_path):
    returncode, stderr = end_block("raise ValueError(7)", tmp_path)
    assert returncode == 1
    assert stderr.startswith(WORDS + "Traceback") and stderr.endswith("ValueError: 7\n")


def test_nothing_is_shown_of_what_ctrl_c_ends(tmp_path):
    _, stderr = end_block("raise KeyboardInterrupt", tmp_path)
    assert stderr.startswith("Traceback")


@pytest.mark.parametrize(
    ("end", "signum"),
    [
        ("os.abort()", signal.SIGABRT),  # as C++ does where it calls `abort` or throws
        ("os.kill(os.getpid(), 4)", signal.SIGILL),
        ("import ctypes; ctypes.string_at(0)", signal.SIGSEGV),
        ("os.kill(os.getpid(), 9)", signal.SIGKILL),
    ],
)
def test_all_is_shown_where_the_process_dies(end, signum, tmp_path):
    assert end_block(end, tmp_path) == (-signum, f"{WORDS}{LAST_WORDS}\n")
