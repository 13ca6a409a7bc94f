"""Reads files of any size as text, in parts: plain text, or the records of `RECORD_READERS`."""

import codecs
import csv
import functools
import gzip
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError, shortened

DEFAULT_COLUMN = "text"
DOCUMENT_END = "\n\n"  # see `Tokenizer.document_end`
CHUNK_BYTES = 2**20
MAX_LINE_CHARS = 2**26  # of a record, which is in memory as a whole

_GZIP = b"\x1f\x8b"  # which no text in UTF-8 begins with
_CARRIAGE_RETURN = re.compile("\r\r?\n|\r")  # "\r\r\n": where "\n" became "\r\n" twice


def read_files(
    paths: Sequence[str], column: str = DEFAULT_COLUMN, document_end: str = DOCUMENT_END
) -> Iterator[str]:
    """Yields parts of files, none empty: plain text from a line of its own, records as documents.

    Args:
        paths: Their suffixes say what they hold: see `RECORD_READERS`.
        column: Which field of a record is its text. Records without a text are left out.
        document_end: What to put after each record.

    Raises:
        InputError: A file is not UTF-8 text or is damaged, or a record has no such field.
    """
    last = "\n"
    for path in paths:
        if read_records := RECORD_READERS.get(suffix_of(path)):
            texts = _texts_of(read_records(path, column), column, path)
            documents = (text + document_end for text in texts)
            parts = map("".join, grouped(documents, CHUNK_BYTES))
        else:
            parts = read_plain_text(path)
        line_end = "" if last == "\n" else "\n"
        for text in parts:
            yield line_end + text
            line_end, last = "", "\n" if read_records else text[-1]


def read_plain_text(path: str) -> Iterator[str]:
    """Yields the parts of a file, none empty; raises `InputError` where it is not UTF-8 text."""
    return filter(None, map(normalize, _decode_file(path)))


def read_lines(path: str) -> Iterator[str]:
    """Yields the lines of a file; Unicode's own line ends stay: a JSON string may hold them."""
    number, rest = 1, ""
    for text in _decode_file(path):
        *lines, rest = (rest + _unify(text)).split("\n")
        yield from lines
        number += len(lines)
        if len(rest) >= MAX_LINE_CHARS:
            raise InputError(
                f"{path}, line {number}: expected fewer than {MAX_LINE_CHARS:,} characters, got "
                "more; take it out"
            )
    if rest:
        yield rest


def normalize(text: str) -> str:
    """A text as all of ours are: each line ends with "\\n", and there is no byte order mark."""
    text = _unify(text)
    if not text.isascii():
        for line_end in "\x85\u2028\u2029":  # Unicode's own; several times as fast as `re.sub`
            text = text.replace(line_end, "\n")
    return text


def _unify(text):
    text = _CARRIAGE_RETURN.sub("\n", text) if "\r" in text else text
    return text.replace("\ufeff", "")  # the byte order mark


def normalize_string(text: str) -> str:
    """The same of what was typed, or stood in JSON, and may not be well-formed."""
    return well_formed(normalize(text))


def well_formed(text: str) -> str:
    """Replaces lone surrogates, of JSON or a command line that is not UTF-8, by "\\ufffd"."""
    return text if text.isascii() else re.sub("[\ud800-\udfff]", "\ufffd", text)


def _damaged(path, kind, error):
    return InputError(
        f"expected a whole {kind} file in {path}, got a damaged one ({error}); copy it again, or "
        "pass another file"
    )


def _decode_file(path):
    """Yields the parts of a file's text; none ends within a line end."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    position, held, data = 0, "", True  # bytes read; "\r" that more of a line end may follow
    try:
        with open(path, "rb") as file:
            if file.peek(2)[:2] == _GZIP:
                file = gzip.GzipFile(fileobj=file)
            elif path.lower().endswith(".gz"):
                raise _damaged(path, "gzip", "it does not begin as one")
            while data:
                data = file.read(CHUNK_BYTES)
                text = held + _decode(decoder, data, position, path)
                held = text[len(text.rstrip("\r")) :][-2:] if data else ""
                yield text.removesuffix(held)
                position += len(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, "gzip", error) from None


def _decode(decoder, data, position, path):
    num_undecoded = len(decoder.getstate()[0])
    bad = [position + data.index(b"\0")] if b"\0" in data else []
    try:
        text = decoder.decode(data, final=not data)
    except UnicodeDecodeError as error:
        bad.append(position - num_undecoded + error.start)
    if bad:
        raise InputError(
            f"expected UTF-8 text in {path}, got a file that is binary or not UTF-8 at byte "
            f"{min(bad)}; convert it to text (from another encoding, with iconv), or pass another "
            "file"
        )
    return text


def suffix_of(path: str) -> str:
    """The suffix of a file's name that says what it holds: that before ".gz", in lower case."""
    return os.path.splitext(path.lower().removesuffix(".gz"))[1]


def mistake(path, line, message, fix="correct it, or take it out"):
    """The error of a line, from 1; None: of a file without lines."""
    place = path if line is None else f"{path}, line {line}"
    return InputError(f"{place}: {message}; {fix}")


def grouped(texts: Iterable[str], num_chars: int) -> Iterator[list[str]]:
    """Yields lists of texts that have at least so many characters, but for the last list."""
    group, length = [], 0
    for text in texts:
        group.append(text)
        length += len(text)
        if length >= num_chars:
            yield group
            group, length = [], 0
    if group:
        yield group


def _texts_of(records, column, path):
    for line, record in records:
        if text := text_of(record, column, path, line):
            yield text


def text_of(record: dict, column: str, path: str, line: int | None) -> str:
    """The text of a record, "" if that has none; raises `InputError` where it has no such field."""
    if column not in record:
        fix = "choose one with --column"
        if suffix_of(path) == ".tsv" or {"source", "target"} <= record.keys():
            fix += "; of pairs leave --column out, and give --architecture encoder-decoder"
        elif {"messages", "prompt", "completion"} & record.keys():
            fix = "prompts with completions, or messages, are for --from, as .jsonl files"
        names = ", ".join(map(repr, record)) or "none"
        raise mistake(path, line, f"expected a column {column!r}, got {names}", fix)
    text = record[column]
    if text is not None and not isinstance(text, str):
        raise mistake(path, line, f"expected a text in {column!r}, got {shortened(text)}")
    return normalize_string(text or "")


# Each yields (line or None, record as a dict); of a table first one that only names the columns.


def _read_json_lines(path, column):
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            try:
                record = parse_json(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                message = f"expected a JSON object, got {shortened(line.strip())}"
                raise mistake(path, number, message)
            yield number, record


def _read_table(path, column, **dialect):
    """The first row names the columns; a field between quotes may hold line ends."""
    csv.field_size_limit(MAX_LINE_CHARS)
    rows = csv.reader((line + "\n" for line in read_lines(path)), strict=True, **dialect)
    line = 1  # where a row begins
    try:
        header = next(rows, [])
        yield line, dict.fromkeys(header)
        line = rows.line_num + 1
        for row in rows:
            if len(row) not in (0, len(header)):
                message = f"expected {len(header)} fields, as in the first row, got {len(row)}"
                raise mistake(path, line, message)
            if row:
                yield line, {column: row[header.index(column)]}
            line = rows.line_num + 1
    except csv.Error as error:
        raise mistake(path, line, f"expected a row of a table, got: {error}") from None


def _read_parquet(path, column):
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{path}: Parquet files need pyarrow: pip install pyarrow") from None
    with open(path, "rb") as raw:
        try:
            # Without a buffer a whole group of rows is read at once.
            file = pyarrow.parquet.ParquetFile(raw, buffer_size=CHUNK_BYTES)
            yield None, dict.fromkeys(file.schema_arrow.names)
            kind = str(file.schema_arrow.field(column).type)
            if "string" not in kind or kind.startswith(("list", "struct", "map")):
                message = f"expected texts in the column {column!r}, got {kind}"
                raise mistake(path, None, message, "choose another with --column")
            for i in range(file.num_row_groups):
                group = file.metadata.row_group(i)
                size = 1 + CHUNK_BYTES * group.num_rows // (group.total_byte_size + 1)
                for batch in file.iter_batches(size, row_groups=[i], columns=[column]):
                    yield from ((None, record) for record in batch.to_pylist())
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            if getattr(error, "errno", None):  # the disk's, not the library's
                raise
            raise _damaged(path, "Parquet", error) from None


# What has another suffix is plain text.
RECORD_READERS = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".csv": _read_table,
    ".tsv": functools.partial(_read_table, delimiter="\t", quoting=csv.QUOTE_NONE),
    ".parquet": _read_parquet,
}
