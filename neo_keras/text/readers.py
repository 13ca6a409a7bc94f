"""Reads the bytes of files of any size as text, in parts; gzip too."""

import codecs
import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from neo_keras.errors import InputError

CHUNK_BYTES = 2**20
MAX_LINE_BYTES = 2**26  # of a record, which is in memory as a whole

_GZIP = b"\x1f\x8b"  # which no text in UTF-8 begins with
_CARRIAGE_RETURN = re.compile("\r\r?\n|\r")  # "\r\r\n": where "\n" became "\r\n" twice
_OTHER_LINE_ENDS = "\x85\u2028\u2029"  # Unicode's own
_BYTE_ORDER_MARK = "\ufeff"


def read_plain_text(path: str, begin: int = 0) -> Iterator[tuple[int, str]]:
    """Reads a file of plain text; raises `InputError` where it is not UTF-8, or damaged.

    Yields:
        (position, text): Its parts from `begin` on, none of them empty, as `normalize` makes them.
        Positions are in bytes of what is unpacked; `begin` is one of them.
    """
    for position, text in _decode_file(path, begin):
        if text := normalize(text):
            yield position, text


def read_whole(path: str) -> str:
    """A whole file as text. Unicode's own line ends stay: a JSON string may hold them."""
    text = "".join(text for _, text in _decode_file(path))
    return _CARRIAGE_RETURN.sub("\n", text).replace(_BYTE_ORDER_MARK, "")


def read_lines(file: BinaryIO, path: str) -> Iterator[str]:
    """Yields the lines of an open file; `file.tell()` is where the next one begins."""
    while data := file.readline(MAX_LINE_BYTES):
        position = file.tell() - len(data)
        if len(data) == MAX_LINE_BYTES:
            raise InputError(
                f"expected lines of fewer than {MAX_LINE_BYTES:,} bytes in {path}, got a longer "
                f"one at byte {position}; take it out"
            )
        yield _decode(data, path, position).removeprefix(_BYTE_ORDER_MARK)


def normalize(text: str) -> str:
    """A text as all of ours are: each line ends with "\\n", and there is no byte order mark."""
    if "\r" in text:
        text = _CARRIAGE_RETURN.sub("\n", text)
    if text.isascii():
        return text
    for line_end in _OTHER_LINE_ENDS:
        text = text.replace(line_end, "\n")
    return text.replace(_BYTE_ORDER_MARK, "")


def normalize_string(text: str) -> str:
    """The same of what was typed, or stood in JSON, and may not be well-formed."""
    return well_formed(normalize(text))


def well_formed(text: str) -> str:
    """Replaces lone surrogates, of JSON or a command line that is not UTF-8, by "\\ufffd"."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)


def damaged(path: str, kind: str, error: Exception) -> InputError:
    """The error for a file that does not hold what its kind does."""
    return InputError(
        f"expected a whole {kind} file in {path}, got a damaged one ({error}); copy it again, or "
        "pass another file"
    )


@contextlib.contextmanager
def open_unpacked(path: str) -> Iterator[BinaryIO]:
    """Opens a file, which may be packed by gzip, to read what is in it."""
    try:
        with open(path, "rb") as raw:
            yield gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damaged(path, "gzip", error) from None


def _decode_file(path, begin=0):
    """Yields (where a text begins, in bytes; the text, which does not end within a line end)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, held = begin, ""  # bytes read so far; "\r" that more of a line end may follow
    at_end = False
    with open_unpacked(path) as file:
        file.seek(begin)
        while not at_end:
            data = file.read(CHUNK_BYTES)
            at_end = not data
            text = held + _decode(data, path, position, decoder, at_end)
            held = "" if at_end else text[len(text.rstrip("\r")) :][-2:]
            if text := text.removesuffix(held):
                yield begin, text
            position += len(data)
            begin = position - len(decoder.getstate()[0]) - len(held)


def _decode(data, path, position, decoder=None, is_end=True):
    """The text of bytes that stand at a position of a file."""
    decoder = decoder or codecs.getincrementaldecoder("utf-8")()
    num_undecoded = len(decoder.getstate()[0])
    bad = [position + data.index(b"\0")] if b"\0" in data else []
    try:
        text = decoder.decode(data, is_end)
    except UnicodeDecodeError as error:
        bad.append(position - num_undecoded + error.start)
    if bad:
        raise InputError(
            f"expected UTF-8 text in {path}, got a file that is binary or not UTF-8 at byte "
            f"{min(bad)}; convert it to text (from another encoding, with iconv), or pass another "
            "file"
        )
    return text
