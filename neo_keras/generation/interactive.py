"""Prompts line by line, from a person or from a pipe."""

import contextlib
import signal
import sys

from neo_keras.errors import InputError
from neo_keras.text.formats import normalize_string


def answer_lines(chunks_after):
    """Reads a line, writes the chunks of the text after it, and so on to the end of stdin.

    At a terminal, Ctrl-C ends the text that is being written; at the prompt it ends the session, as
    Ctrl-D does, and a mistake does not end it. Empty lines are passed over.
    """
    if sys.stdin is None:
        return
    sys.stdin.reconfigure(errors="surrogateescape")  # as Python reads its arguments
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        for line in sys.stdin:
            if prompt := normalize_string(line).rstrip("\n"):
                write_chunks(chunks_after(prompt))
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (a line can be edited, and an earlier one fetched)
    try:
        while True:
            if prompt := normalize_string(input("> ")):
                try:
                    write_chunks(until_interrupted(chunks_after(prompt)))
                except InputError as error:
                    print(f"error: {error}", file=sys.stderr)
    except (EOFError, KeyboardInterrupt):
        print()


def write_chunks(chunks):
    """Writes the chunks of a text as they come, and a line break: an error begins a line."""
    try:
        for chunk in chunks:
            print(chunk, end="", flush=True)
    finally:
        print(flush=True)


def until_interrupted(chunks):
    """Yields chunks until Ctrl-C, which lets an engine finish its step; a second one does not."""
    presses = []

    def press(signum, frame):
        if presses:
            raise KeyboardInterrupt
        presses.append(signum)

    previous = signal.signal(signal.SIGINT, press)
    try:
        for chunk in chunks:
            yield chunk
            if presses:
                return
    finally:
        signal.signal(signal.SIGINT, previous)
