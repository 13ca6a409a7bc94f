"""Files of records, in every format."""

import csv
import gzip
import json
import random

import pytest
from tiny_texts import words

from neo_keras.text import formats

NO_PYARROW = "Parquet files are read with pyarrow, which is not installed"
FORMATS = ["jsonl", "ndjson.gz", "csv", "CSV.gz", "tsv", "parquet"]


def documents(count=60):
    """Some with quotes, commas and lines, and some that are none."""
    rng = random.Random(7)
    texts = [
        words(i, rng.randrange(1, 90)) + rng.choice(['"', "", ',"', "\n"]) for i in range(count)
    ]
    return [*texts[:20], None, *texts[20:40], "", *texts[40:]]


def text_of(texts):
    return "".join(formats.normalize(text) + "\n\n" for text in texts if text)


def write(path, texts, column="text"):
    """Writes documents as records with one more field, in the format of the path's suffix."""
    suffix = formats.suffix_of(str(path))
    rows = list(enumerate(texts))
    if suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow", reason=NO_PYARROW)
        parquet = pytest.importorskip("pyarrow.parquet", reason=NO_PYARROW)
        ids, values = zip(*rows)
        parquet.write_table(pyarrow.table({"id": ids, column: values}), path, row_group_size=23)
        return path
    if suffix in (".jsonl", ".ndjson"):
        lines = (json.dumps({"id": i, column: text}, ensure_ascii=i % 2 == 0) for i, text in rows)
        data = "\r\n".join(lines)
    elif suffix == ".csv":
        table = path.with_name("table")
        with open(table, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("id", column), *rows])
        data = table.read_bytes().decode()
        table.unlink()
    else:
        lines = (f"{i}\t{' '.join((text or '').split())}" for i, text in rows)
        data = "".join(line + "\n" for line in [f"\ufeffid\t{column}", *lines])
    data = data.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path
