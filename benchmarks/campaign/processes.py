"""Real processes of the scripts, forked from this one, which has imported TensorFlow once."""

import atexit
import contextlib
import functools
import gc
import os
import pathlib
import resource
import runpy
import select
import signal
import sys
import time
import traceback

ROOT = pathlib.Path(__file__).parents[2]
LIMIT = 1200  # seconds; only a hang takes so long
CAMPAIGNS_OWN = 70  # exit code of a fault that is not the product's
TRACEBACK = "Traceback (most recent call last)"


def preload():
    """Imports what the scripts import, and starts none of TensorFlow's threads."""
    from neo_keras.native_logs import import_tensorflow

    import_tensorflow()
    import matplotlib.pyplot  # noqa: F401

    import neo_keras.export.exporter
    import neo_keras.export.litertlm
    import neo_keras.generation.load
    import neo_keras.training.launch
    import neo_keras.training.progress
    import neo_keras.training.train_drafter
    import neo_keras.training.trainer  # noqa: F401


class Process:
    """A process of one script.

    Args:
        directory: where it runs.
        command: the name of the script, such as "train.py", and its arguments.
        environment: variables to change.
        logs: directory in which its output is kept; None: where it runs.
        memory: bytes of address space that it may have; None: all.
        body: a function to run in place of the script; returns the exit code.

    Attributes:
        code: its exit code, once it ended; -N of a signal N.
        hung: whether it did not end, and had to be killed.
        peak_bytes: of its memory, once it ended.
    """

    def __init__(self, directory, command, environment=None, logs=None, memory=None, body=None):
        self.command = " ".join(map(str, command))
        logs = pathlib.Path(logs or directory)
        number = len(list(logs.glob("*.out")))
        self._out, self._err = (logs / f"{number}.{name}" for name in ("out", "err"))
        self._out.touch()
        self.code, self.hung, self._start = None, False, time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            code = CAMPAIGNS_OWN
            try:
                os.setpgid(0, 0)
                _redirect(self._out, self._err)
                os.chdir(directory)
                os.environ.update(environment or {})
                if memory:
                    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
                code = body() if body else run_script(*command)
                atexit._run_exitfuncs()
                gc.collect()
                sys.stdout.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)

    @property
    def seconds_so_far(self):
        return time.monotonic() - self._start

    @property
    def output(self):
        return self._out.read_text(errors="replace")

    @property
    def errors(self):
        return self._err.read_text(errors="replace") if self._err.exists() else ""

    def wait(self, limit=LIMIT):
        """Waits until it ends; returns itself. What does not end is killed, and `hung`."""
        if not self.wait_for_seconds(limit):
            self.hung = True
            self.kill()
        return self

    def wait_for(self, line, limit=LIMIT):
        """Whether the text has been printed before the process ended."""
        while time.monotonic() < self._start + limit:
            if line in self.output:
                return True
            if self.wait_for_seconds(0.005):
                return line in self.output
        return False

    def kill_after(self, seconds):
        """Sends SIGKILL, to the processes that it started too; returns whether it still ran."""
        if self.wait_for_seconds(seconds):
            return False
        self.kill()
        return self.code == -signal.SIGKILL

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait_for_seconds(LIMIT)

    def wait_for_seconds(self, seconds):
        """Waits so long at most; returns whether it has ended."""
        if self.code is not None:
            return True
        handle = os.pidfd_open(self.pid)
        try:
            if not select.select([handle], [], [], seconds)[0]:
                return False
        finally:
            os.close(handle)
        _, status, usage = os.wait4(self.pid, 0)
        self.seconds = self.seconds_so_far
        self.code, self.peak_bytes = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
        return True


def run_script(script, *arguments):
    """Runs a script in this process as `python SCRIPT ARGUMENTS` does; returns its exit code."""
    sys.argv = [script, *map(str, arguments)]
    return exit_code_of(functools.partial(runpy.run_path, str(ROOT / script), run_name="__main__"))


def exit_code_of(function):
    """Calls it; returns what a process would end with that does nothing else."""
    try:
        function()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _redirect(out, err):
    for number, path in enumerate((os.devnull, out, err)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        handle = os.open(path, flags)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)
