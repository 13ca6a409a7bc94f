"""The formats of text files: a new one is a row of `RECORD_READERS`."""

import csv
import functools
import itertools
import os
from collections.abc import Iterator, Sequence

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError, shortened
from neo_keras.text import readers
from neo_keras.text.readers import (
    damaged,
    normalize_string,
    open_unpacked,
    read_lines,
    read_plain_text,
)

Offset = tuple[int, int]  # the number of a file, and a position in it, as its reader counts
BEGINNING: Offset = (0, 0)
Part = tuple[Offset | None, str]  # a part of a text, and where it begins

DEFAULT_COLUMN = "text"
DOCUMENT_END = "\n\n"  # see `Tokenizer.document_end`


def read_files(
    paths: Sequence[str],
    offset: Offset = BEGINNING,
    column: str = DEFAULT_COLUMN,
    document_end: str = DOCUMENT_END,
) -> Iterator[Part]:
    """Reads files one after another: plain text from a line of its own, records as documents.

    Args:
        paths: The files. Their suffixes say what they hold: see `RECORD_READERS`.
        offset: Where to begin: one that this yielded.
        column: Which field of a record is its text. Records without a text are left out.
        document_end: What to put after each record.

    Yields:
        (offset, text): Parts of the text, none of them empty, as `normalize` makes them; and where
        each begins, or None of a line end that is put between two files.

    Raises:
        InputError: A file is not UTF-8 text or is damaged, or a record has no such field.
    """
    (first, begin), last = offset, "\n"
    for number in range(first, len(paths)):
        path, is_first = paths[number], True
        read_records = RECORD_READERS.get(suffix_of(path))
        if read_records:
            parts = _join(path, read_records(path, column, begin), column, document_end)
        else:
            parts = read_plain_text(path, begin)
        for position, text in parts:
            if is_first and last != "\n":
                yield None, "\n"
            yield (number, position), text
            is_first, last = False, "\n" if read_records else text[-1]
        begin = 0


def suffix_of(path: str) -> str:
    """The suffix of a file's name that says what it holds: that before ".gz", in lower case."""
    return os.path.splitext(path.lower().removesuffix(".gz"))[1]


def _mistake(path, position, message, fix="correct it, or take it out"):
    """The error of what begins at a position in bytes; None: of a file without lines."""
    if position is None:
        return InputError(f"{path}: {message}; {fix}")
    line = 1
    with open_unpacked(path) as file:
        while file.tell() < position:
            file.readline()
            line += 1
    return InputError(f"{path}, line {line}: {message}; {fix}")


def _check_column(path, position, column, columns):
    if column not in columns:
        fix = "choose one with --column"
        if suffix_of(path) == ".tsv" or {"source", "target"} <= set(columns):
            fix += "; of pairs leave --column out, and give --architecture encoder-decoder"
        names = ", ".join(map(repr, columns)) or "none"
        raise _mistake(path, position, f"expected a column {column!r}, got {names}", fix)


def _join(path, records, column, document_end):
    """Yields (position, text): some documents at a time."""
    begin, texts, num_chars = 0, [], 0
    for position, text in records:
        if text is not None and not isinstance(text, str):
            raise _mistake(path, position, f"expected a text in {column!r}, got {shortened(text)}")
        if text := normalize_string(text or ""):
            begin = begin if texts else position
            texts += [text, document_end]
            num_chars += len(text)
        if num_chars >= readers.CHUNK_BYTES:
            yield begin, "".join(texts)
            texts, num_chars = [], 0
    if texts:
        yield begin, "".join(texts)


def _read_json_lines(path, column, begin):
    with open_unpacked(path) as file:
        file.seek(begin)
        position = begin
        for line in read_lines(file, path):
            if line.strip():
                record = _parse_object(line, path, position)
                _check_column(path, position, column, record)
                yield position, record[column]
            position = file.tell()


def _parse_object(line, path, position):
    try:
        record = parse_json(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise _mistake(path, position, f"expected a JSON object, got {shortened(line.strip())}")
    return record


def _read_table(path, column, begin, **dialect):
    """The first row names the columns; a field between quotes may hold line ends."""
    csv.field_size_limit(readers.MAX_LINE_BYTES)
    position = 0
    with open_unpacked(path) as file:
        rows = csv.reader(read_lines(file, path), strict=True, **dialect)
        try:
            header = next(rows, [])
            _check_column(path, position, column, header)
            file.seek(begin or file.tell())
            position = file.tell()
            for row in rows:
                if row and len(row) != len(header):
                    expected = f"{len(header)} fields, as in the first row"
                    raise _mistake(path, position, f"expected {expected}, got {len(row)}")
                if row:
                    yield position, row[header.index(column)]
                position = file.tell()
        except csv.Error as error:
            raise _mistake(path, position, f"expected a row of a table, got: {error}") from None


def _read_parquet(path, column, begin):
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{path}: Parquet files need pyarrow: pip install pyarrow") from None
    with open(path, "rb") as raw:
        try:
            # Without a buffer a whole group of rows is read at once.
            file = pyarrow.parquet.ParquetFile(raw, buffer_size=readers.CHUNK_BYTES)
            _check_column(path, None, column, file.schema_arrow.names)
            kind = str(file.schema_arrow.field(column).type)
            if "string" not in kind or kind.startswith(("list", "struct", "map")):
                message = f"expected texts in the column {column!r}, got {kind}"
                raise _mistake(path, None, message, "choose another with --column")
            first = 0
            for i in range(file.num_row_groups):
                group = file.metadata.row_group(i)
                if begin < first + group.num_rows:
                    batch_size = readers.CHUNK_BYTES * group.num_rows // (group.total_byte_size + 1)
                    batches = file.iter_batches(batch_size + 1, row_groups=[i], columns=[column])
                    texts = (text for batch in batches for text in batch.column(0).to_pylist())
                    rows = enumerate(texts, first)
                    yield from itertools.dropwhile(lambda row: row[0] < begin, rows)
                first += group.num_rows
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            if getattr(error, "errno", None):  # the disk's, not the library's
                raise
            raise damaged(path, "Parquet", error) from None


# Suffix -> a function of (path, column, the position to begin at) that yields (position, value) of
# each record. What has another suffix is plain text.
RECORD_READERS = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".csv": _read_table,
    ".tsv": functools.partial(_read_table, delimiter="\t", quoting=csv.QUOTE_NONE),
    ".parquet": _read_parquet,
}
