"""How a mistake reaches the person who made it: one line on stderr, no traceback."""

import argparse
import contextlib
import json
import os
import signal
import sys
import warnings

MAX_CHARS = 1000  # of an error


class InputError(ValueError):
    """A mistake in what the user gave: says what was expected, what was got, and the fix."""


class FailedError(RuntimeError):
    """What was asked was right, and could not be done."""


def shortened(value):
    """What to quote of a value that may be long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


class ArgumentParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without all that there is beside."""

    def error(self, message):
        if message.endswith("expected one argument"):  # argparse takes "-x" for an option
            message += f" (one that begins with - is given as {message.split()[1][:-1]}=-...)"
        self.exit(2, f"error: {message}; see python {self.prog} --help\n")


def utf8_path(text):
    """The type of an argument that names what TensorFlow or LiteRT open: they know no other."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"expected a name in UTF-8, got {text!r}: rename it, or choose another"
        ) from None
    return text


@contextlib.contextmanager
def one_line_errors():
    """For the scripts: turns a mistake into one line on stderr and exit code 2, a failure into 1.

    Warnings are one line too. Anything else is a bug of ours and keeps its traceback.
    """
    open_standard_streams()
    sys.stdout.reconfigure(errors="replace")  # text may hold what the terminal cannot show
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        yield
    except InputError as error:
        _exit(error, code=2)
    except BrokenPipeError:  # whoever read our output has enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except FailedError as error:
        _exit(error, code=1)
    except OSError as error:
        reason = error.strerror or error
        _exit(f"{error.filename}: {reason}" if error.filename else reason, code=1)
    except KeyboardInterrupt:
        _exit("interrupted", code=130)


def open_standard_streams():
    """Makes those of stdin, stdout and stderr that are closed lead nowhere, as of a service.

    Else what is meant for stderr lands on stdout, and a file that is opened becomes descriptor 1 or
    2, which native code writes to.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # it is the lowest that is free
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def _exit(message, code):
    message = " ".join(str(message).split())
    if len(message) > MAX_CHARS:  # it quotes what a damaged file holds
        message = f"{message[: MAX_CHARS // 2]} ... {message[-MAX_CHARS // 2 :]}"
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
