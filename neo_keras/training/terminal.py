"""A training outlives the terminal that it writes to."""

import errno
import io
import sys


def outlive_terminal():
    """Lets what is written to a terminal go nowhere, instead of failing, once that was closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream.isatty() and stream is getattr(sys, f"__{name}__"):
            raw = _Terminal(stream.fileno(), "w", closefd=False)
            text = (io.BufferedWriter(raw), stream.encoding, stream.errors)
            setattr(sys, name, io.TextIOWrapper(*text, line_buffering=True))


class _Terminal(io.FileIO):
    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(data)
