"""How a mistake reaches the person who made it: one line on stderr, no traceback."""

import argparse
import contextlib
import fnmatch
import json
import os
import pathlib
import re
import signal
import sys
import warnings

MAX_CHARS = 1000  # of an error
PAGE_PARTS = "*.tflite.[0-9]*"  # what the parts of a web page's model are called
# What a directory holds, after a slash, or what a file is called: the first that fits counts.
_KINDS_OF_PATHS = {
    "/sw.js": "it is a web page, which python -m http.server --directory serves",
    "/saved_model.pb": "it is a SavedModel, which generate.py takes",
    "/report.json": "it holds exported models",
    "/best.keras": "its config.json is missing, damaged or not of neo_keras",
    "/": "it has no config.json of neo_keras",
    "*.keras": "it is a checkpoint",
    "*.tflite": "it is an exported model, which generate.py takes",
    PAGE_PARTS: "it is a part of the model of a web page",
    "*.litertlm": "it is for LiteRT-LM, which `litert-lm run` runs",
    "*.gguf": "it has weights of others, which train.py takes with --from",
    "*.safetensors": "it has weights alone, of which train.py takes the folder with --from",
    "*.pb": "it is a part of a SavedModel, which is a directory",
    "tokenizer.json": "it is a tokenizer",
    "tokenizer_config.json": "it is a part of a tokenizer",
    "config.json": "it is a part of a model",
    **dict.fromkeys(("*.jsonl", "*.tsv", "*.txt"), "it is text, which train.py trains on"),
    "*": "it is a file of another kind",
}


class InputError(ValueError):
    """A mistake in what the user gave: says what was expected, what was got, and the fix."""


class FailedError(RuntimeError):
    """What was asked was right, and could not be done."""


def shortened(value):
    """What to quote of a value that may be long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return repr(text if len(text) <= 60 else text[:57] + "...")


def mistaken(path, expected, also=()):
    """The `InputError` for a path that is not what was expected, such as "a run directory".

    It proposes one of the names `also` in the path, or a run above or below it.
    """
    path = pathlib.Path(path)
    if not path.exists():
        advice = "it does not exist; train a model with train.py, or give the path of one"
        return InputError(f"{path} is not {expected}: {advice}")
    names = [path.name.lower()]
    if path.is_dir():
        names = [*(f"/{child.name}" for child in path.iterdir()), "/"]
    what = next(what for pattern, what in _KINDS_OF_PATHS.items() if fnmatch.filter(names, pattern))
    runs = [p for p in (*path.parents, *sorted(path.glob("*/"))) if (p / "best.keras").is_file()]
    instead = [path / name for name in also if (path / name).exists()] + runs
    advice = f"; give {instead[0]}" if instead else ""
    return InputError(f"{path} is not {expected}: {what}{advice}")


class ArgumentParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message):
        if message.endswith("expected one argument"):  # argparse takes "-x" for an option
            message += f" (one that begins with - is given as {message.split()[1][:-1]}=-...)"
        self.exit(2, f"error: {message}; see python {self.prog} --help\n")


def utf8_path(text):
    """The type of an argument that names what TensorFlow or LiteRT open: they know no other."""
    if re.search("[\ud800-\udfff]", text):
        message = f"expected a name in UTF-8, got {text!r}: rename it, or choose another"
        raise argparse.ArgumentTypeError(message)
    return text


@contextlib.contextmanager
def one_line_errors():
    """For the scripts: turns a mistake into one line on stderr and exit code 2, a failure into 1.

    Warnings are one line too. Any other exception is a bug of ours and keeps its traceback.
    """
    _open_standard_streams()
    sys.stdout.reconfigure(errors="replace")  # text may hold what the terminal cannot show
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        yield
    except (InputError, FailedError) as error:
        _exit(error, code=2 if isinstance(error, InputError) else 1)
    except BrokenPipeError:  # whoever read our output has enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        reason = error.strerror or error
        _exit(f"{error.filename}: {reason}" if error.filename else reason, code=1)
    except KeyboardInterrupt:
        _exit("interrupted", code=130)


def _open_standard_streams():
    """Makes those that are closed, as of a service, lead nowhere: native code writes to 1 and 2."""
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
