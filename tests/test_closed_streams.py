"""The scripts work where stdout, stderr or both are closed, as of a service; or are no files."""

import itertools
import subprocess
import sys

import pytest
from tiny_models import ROOT
from waits import HANG_SECONDS

pytest_plugins = ["export_fixtures"]

CLOSED = [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"]
# As `pythonw` begins, and what an installer for Windows makes.
WINDOWED = """
import runpy, sys
sys.stdout = sys.__stdout__ = sys.stderr = sys.__stderr__ = None
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""
STREAMS = """
import os, sys
from neo_keras.errors import one_line_errors
path = sys.argv[1]
with one_line_errors():
    with open(path, "w") as file:
        print("for stderr", file=sys.stderr)
        os.write(1, b"C++'s words")
        os.write(2, b"C++'s words")
        file.write(str(file.fileno() > 2))
"""


def shell(closed, *command):
    """Runs Python with streams closed."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


@pytest.mark.parametrize("closed", CLOSED)
def test_no_file_takes_the_place_of_a_stream(closed, tmp_path):
    done = shell(closed, "-c", STREAMS, tmp_path / "file")
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "True"
    assert done.stdout == ("" if ">&-" in closed.split() else "C++'s words")


@pytest.mark.parametrize("closed", CLOSED)
def test_generate(closed, int8_tflite):
    arguments = ("generate.py", int8_tflite, "--prompt", "abc", "--max-tokens", 9, "--seed", 1)
    expected = shell("", *arguments)
    assert (expected.returncode, len(expected.stdout)) == (0, 13)
    done = shell(closed, *arguments)
    if ">&-" not in closed.split():
        assert (done.returncode, done.stdout, done.stderr) == (0, expected.stdout, "")
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: stdout is closed") == ("2>&-" not in closed)


def test_generate_in_a_windowed_python(int8_tflite):
    done = shell("", "-c", WINDOWED, "generate.py", int8_tflite, "--max-tokens", 9)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("closed", CLOSED)
def test_a_mistake_has_its_exit_code(closed, tmp_path):
    done = shell(closed, "export.py", tmp_path / "absent")
    assert (done.returncode, done.stdout) == (2, "")
    assert ("error: " in done.stderr) == ("2>&-" not in closed)


@pytest.mark.exhaustive
@pytest.mark.parametrize("closed", CLOSED[:3])
def test_train_and_export(closed, corpus_file, tmp_path):
    size = {"num-layers": 1, "num-heads": 1, "hidden-dim": 16, "seq-len": 16, "batch-size": 4}
    options = [f"--{name}={value}" for name, value in size.items()]
    options += ["--num-speculative-tokens=0", "--compile=off", "--steps=4", "--eval-every=2"]
    trained = shell(closed, "train.py", "--run", tmp_path, "--data", corpus_file, *options)
    assert trained.returncode == 0
    exported = shell(closed, "export.py", tmp_path, "--formats=tflite", "--quantize=int8")
    assert exported.returncode == 0
    assert (tmp_path / "export" / "model-int8.tflite").exists()
    for done, stream in itertools.product((trained, exported), ("stdout", "stderr")):
        if {"stdout": ">&-", "stderr": "2>&-"}[stream] in closed.split():
            assert getattr(done, stream) == ""
    assert bool(trained.stdout) == (closed == "2>&-")
