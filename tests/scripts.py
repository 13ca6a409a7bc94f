"""The scripts, run in this process: one of their own spends a second or more on its imports."""

import io
import os
import runpy
import sys
import typing
import warnings

import pytest
from tiny_models import ROOT


class Done(typing.NamedTuple):
    """What `subprocess.run` would tell."""

    returncode: int
    stdout: str
    stderr: str


def run_script(script, *arguments, cwd=ROOT, stdin=b""):
    """Runs `train.py`, `generate.py` or `export.py` as `python` does.

    Args:
        script: its name.
        *arguments: of the command line; bytes as a shell passes them.
        cwd: path of the directory to run in.
        stdin: bytes that it can read.

    Returns:
        Done.
    """
    streams = [io.TextIOWrapper(io.BytesIO(content), "utf-8") for content in (stdin, b"", b"")]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        for name, stream in zip(("stdin", "stdout", "stderr"), streams):
            patch.setattr(sys, name, stream)
        patch.setattr(sys, "argv", [script, *map(_text, arguments)])
        patch.chdir(cwd)
        code = 0
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as exit:
            code = exit.code or 0
    texts = []
    for stream in streams[1:]:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Done(code, *texts)


def _text(argument):
    return os.fsdecode(argument) if isinstance(argument, bytes) else str(argument)
