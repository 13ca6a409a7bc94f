"""Reads text files of any size, in parts."""

import codecs
from collections.abc import Iterator, Sequence

from neo_keras.errors import InputError

CHUNK_BYTES = 2**20


def read_files(paths: Sequence[str]) -> Iterator[str]:
    """Reads files one after another, each from a line of its own.

    Args:
        paths: The files.

    Yields:
        Parts of the text, none of them empty, with "\\n" line ends and without byte order marks.

    Raises:
        InputError: A file is not UTF-8 text.
    """
    last = "\n"
    for path in paths:
        for i, text in enumerate(_read_file(path)):
            if i == 0 and last != "\n":
                yield "\n"
            yield text
            last = text[-1]


def _read_file(path):
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, held = 0, ""  # bytes read so far; a "\r" that "\n" may follow
    with open(path, "rb") as file:
        at_end = False
        while not at_end:
            data = file.read(CHUNK_BYTES)
            at_end = not data
            num_undecoded = len(decoder.getstate()[0])
            bad = [position + data.index(b"\0")] if b"\0" in data else []
            try:
                text = held + decoder.decode(data, final=at_end)
            except UnicodeDecodeError as error:
                bad.append(position - num_undecoded + error.start)
            if bad:
                raise InputError(
                    f"expected UTF-8 text in {path}, got a file that is binary or not UTF-8 at "
                    f"byte {min(bad)}; convert it with iconv, or pass another file"
                )
            if position == 0:
                text = text.removeprefix("\ufeff")
            held = "\r" if text.endswith("\r") and not at_end else ""
            if text := text.removesuffix(held).replace("\r\n", "\n"):
                yield text
            position += len(data)
