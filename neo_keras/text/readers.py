"""Reads text files of any size, in parts; gzip too."""

import codecs
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence

from neo_keras.errors import InputError

CHUNK_BYTES = 2**20

Offset = tuple[int, int]  # the number of a file, and how many of its bytes lie before, unpacked
BEGINNING: Offset = (0, 0)

_GZIP = b"\x1f\x8b"  # which no text in UTF-8 begins with
_CARRIAGE_RETURN = re.compile("\r\r?\n|\r")  # "\r\r\n": where "\n" became "\r\n" twice
_OTHER_LINE_ENDS = "\x85\u2028\u2029"  # Unicode's own
_BYTE_ORDER_MARK = "\ufeff"


def read_files(
    paths: Sequence[str], offset: Offset = BEGINNING
) -> Iterator[tuple[Offset | None, str]]:
    """Reads files one after another, each from a line of its own.

    Args:
        paths: The files.
        offset: Where to begin: one that this yielded.

    Yields:
        (offset, text): Parts of the text, none of them empty, with "\\n" line ends and without byte
        order marks; and where each begins, or None of a line end that is put between two files.

    Raises:
        InputError: A file is not UTF-8 text, or its gzip is damaged.
    """
    (first, begin), last = offset, "\n"
    for number in range(first, len(paths)):
        is_first = True
        for position, text in _decode(paths[number], begin):
            if text := normalize(text):
                if is_first and last != "\n":
                    yield None, "\n"
                yield (number, position), text
                is_first, last = False, text[-1]
        begin = 0


def read_lines(path: str) -> list[str]:
    """The lines of a file, which may hold other line ends than theirs, as JSON does.

    Args:
        path: The file.

    Returns:
        The lines, without their ends and byte order marks.

    Raises:
        InputError: As `read_files`.
    """
    text = "".join(text for _, text in _decode(path))
    return _CARRIAGE_RETURN.sub("\n", text).replace(_BYTE_ORDER_MARK, "").split("\n")


def normalize(text: str) -> str:
    """A text as all of ours are: each line ends with "\\n", and there is no byte order mark."""
    if "\r" in text:
        text = _CARRIAGE_RETURN.sub("\n", text)
    for line_end in _OTHER_LINE_ENDS:
        text = text.replace(line_end, "\n")
    return text.replace(_BYTE_ORDER_MARK, "")


def normalize_string(text: str) -> str:
    """The same of what was typed or stood in JSON: halves of characters become "\\ufffd"."""
    return re.sub("[\ud800-\udfff]", "\ufffd", normalize(text))


def _decode(path, begin=0):
    """Yields (where a text begins, in bytes; the text, which does not end within a line end)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, held = begin, ""  # bytes read so far; "\r" that more of a line end may follow
    at_end = False
    with open(path, "rb") as raw:
        file = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw
        while not at_end:
            data = _read(file, position, path)
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
                    f"byte {min(bad)}; convert it to text (from another encoding, with iconv), or "
                    "pass another file"
                )
            held = "" if at_end else text[len(text.rstrip("\r")) :][-2:]
            if text := text.removesuffix(held):
                yield begin, text
            position += len(data)
            begin = position - len(decoder.getstate()[0]) - len(held)


def _read(file, position, path):
    try:
        if file.tell() != position:
            file.seek(position)
        return file.read(CHUNK_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"expected a whole gzip file in {path}, got a damaged one ({error}); copy it again, or "
            "pass another file"
        ) from None
