"""Reads text files of any size, in parts."""

import codecs
from collections.abc import Iterator, Sequence

from neo_keras.errors import InputError

CHUNK_BYTES = 2**20

Place = tuple[int, int]  # the number of a file, and how many of its bytes lie before
BEGINNING: Place = (0, 0)


def read_files(
    paths: Sequence[str], place: Place = BEGINNING
) -> Iterator[tuple[Place | None, str]]:
    """Reads files one after another, each from a line of its own.

    Args:
        paths: The files.
        place: Where to begin: one that this yielded.

    Yields:
        (place, text): Parts of the text, none of them empty, with "\\n" line ends and without byte
        order marks; and where each begins, or None of a line end that is put between two files.

    Raises:
        InputError: A file is not UTF-8 text.
    """
    (first, begin), last = place, "\n"
    for number in range(first, len(paths)):
        for i, (position, text) in enumerate(_read_file(paths[number], begin)):
            if i == 0 and last != "\n":
                yield None, "\n"
            yield (number, position), text
            last = text[-1]
        begin = 0


def _read_file(path, begin):
    """Yields (where a text begins, in bytes; the text)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, held = begin, ""  # bytes read so far; a "\r" that "\n" may follow
    with open(path, "rb") as file:
        file.seek(begin)
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
            if begin == 0:
                text = text.removeprefix("\ufeff")
            held = "\r" if text.endswith("\r") and not at_end else ""
            if text := text.removesuffix(held).replace("\r\n", "\n"):
                yield begin, text
            position += len(data)
            begin = position - len(decoder.getstate()[0]) - len(held)
