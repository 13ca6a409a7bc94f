"""generate.py --interactive: in a terminal, and in a pipe."""

import fcntl
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pytest
from tiny_models import ALPHABET, ROOT
from waits import HANG_SECONDS, wait_until

from neo_keras.generation.interactive import until_interrupted

pytest_plugins = ["export_fixtures"]


def command(model, *options):
    return [sys.executable, str(ROOT / "generate.py"), str(model), "--interactive",
            "--seed", "5", *options]  # fmt: skip


class Terminal:
    """A process with a terminal of its own, as a person has it."""

    def __init__(self, args):
        self._mine, its = os.openpty()
        self._process = subprocess.Popen(
            args,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(its)
        self._output = ""

    def type(self, text):
        os.write(self._mine, text.encode())

    def interrupt_prompt(self):
        """Presses Ctrl-C once the process waits for a key.

        Python overlooks one that comes after a prompt is shown and before that.
        """
        status = pathlib.Path(f"/proc/{self._process.pid}/status")  # of Linux
        wait_until(lambda: not status.exists() or "State:\tS" in status.read_text())  # it sleeps
        self.type("\x03")

    def read_until(self, pattern):
        """What is shown up to the first match, which is passed over."""
        deadline = time.monotonic() + HANG_SECONDS
        while not (match := re.search(pattern, self._output)):
            assert time.monotonic() < deadline, self._output
            if not self._read():
                raise AssertionError(f"ended: {self._output}")
        shown, self._output = self._output[: match.end()], self._output[match.end() :]
        return shown

    def end(self):
        """(exit status, the rest of what is shown)."""
        while self._read():
            pass
        os.close(self._mine)
        return self._process.wait(HANG_SECONDS), self._output

    def _read(self):
        if not select.select([self._mine], [], [], HANG_SECONDS)[0]:
            return False
        try:
            content = os.read(self._mine, 1000).decode()
        except OSError:  # the other side is closed
            return False
        self._output += content.replace("\r", "")
        return bool(content)


@pytest.fixture
def terminal(int8_tflite):
    """A session that writes texts without end."""
    return Terminal(command(int8_tflite, "--max-tokens", "1000000"))


def test_ctrl_c_ends_a_text_and_then_the_session(terminal):
    for _ in range(3):
        assert terminal.read_until("> ").endswith("> ")
        terminal.type("abc\n")
        assert terminal.read_until("abc\n").endswith("abc\n")
        terminal.read_until(f"[{ALPHABET}]{{40}}")
        terminal.type("\x03")
    terminal.read_until("\n> ")
    terminal.interrupt_prompt()
    code, rest = terminal.end()
    assert (code, "Traceback" in rest, "error" in rest) == (0, False, False)
    assert rest.endswith("\n")


def test_ctrl_d_ends_the_session(int8_tflite):
    terminal = Terminal(command(int8_tflite, "--max-tokens", "7"))
    terminal.read_until("> ")
    terminal.type("\n")  # nothing to continue: it asks again
    assert terminal.read_until("> ") == "\n> "
    terminal.type("ab\n")
    assert re.fullmatch(f"ab\n[{ALPHABET}]{{7}}\n> ", terminal.read_until("(?<=\n)> "))
    terminal.type("\x04")
    assert terminal.end() == (0, "\n")


def piped(args, lines):
    done = subprocess.run(args, input=lines, capture_output=True, timeout=HANG_SECONDS)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_pipe(int8_tflite):
    code, out, err = piped(command(int8_tflite, "--max-tokens", "30"), b"abc\n\ndcf\r\ngg")
    assert (code, err) == (0, "")
    assert re.fullmatch(f"([{ALPHABET}]{{30}}\n){{3}}", out)  # no prompt, and nothing for no line
    alone = command(int8_tflite, "--max-tokens", "30")
    alone[3:4] = ["--prompt", "abc"]
    assert piped(alone, b"") == (0, "abc" + out[:31], "")
    assert piped(command(int8_tflite), b"") == (0, "", "")


def test_a_pipe_of_any_bytes(int8_tflite):
    code, out, err = piped(command(int8_tflite, "--max-tokens", "5"), b"a\xff\n")
    assert (code, len(out), err.count("\n")) == (0, 6, 1)


def test_ctrl_c_ends_a_pipe(int8_tflite):
    args = command(int8_tflite, "--max-tokens", "1000000")
    with subprocess.Popen(args, stdin=-1, stdout=-1, stderr=-1) as process:
        process.stdin.write(b"abc\ndef\n")
        process.stdin.flush()
        assert process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=HANG_SECONDS)
    assert (process.returncode, err) == (130, b"error: interrupted\n")


def test_it_excludes_a_prompt(int8_tflite):
    code, out, err = piped(command(int8_tflite, "--prompt", "a"), b"")
    assert (code, out) == (2, "")
    assert "not allowed with argument --interactive" in err


def test_a_second_ctrl_c_does_not_wait():
    def chunks():
        yield 1
        os.kill(os.getpid(), signal.SIGINT)
        yield 2
        yield 3

    before = signal.getsignal(signal.SIGINT)
    assert list(until_interrupted(chunks())) == [1, 2]
    assert signal.getsignal(signal.SIGINT) is before

    def slow_chunk():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        yield 1

    with pytest.raises(KeyboardInterrupt):
        list(until_interrupted(slow_chunk()))
    assert signal.getsignal(signal.SIGINT) is before
