"""Files of records that are damaged, or no records: one line says what is wrong."""

import random
import sys

import pytest
from record_files import FORMATS, NO_PYARROW, documents, write

from neo_keras.errors import InputError
from neo_keras.text import formats
from neo_keras.text.corpus import load_corpus
from neo_keras.text.formats import read_files

OBJECT = '{"text": "a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            f'{OBJECT}\n{OBJECT}{{"text": 3}}\n',
            "line 4: expected a text in 'text', got '3'",
        ),
        ("a.jsonl", f'{OBJECT}{{"text": ["b"]}}', "line 2: expected a text in 'text', got '."),
        ("a.jsonl", f"{OBJECT}[1]\n", "line 2: expected a JSON object, got '.1.'"),
        (
            "a.jsonl",
            f'{OBJECT}{{"text": "b\n',
            'line 2: expected a JSON object, got \'."text": "b\'',
        ),
        ("a.jsonl", "[" * 100_000, r"line 1: expected a JSON object, got '\[{57}\.\.\.'"),
        ("a.jsonl", f'{OBJECT}{{"title": "b"}}', "line 2: expected a column 'text', got 'title'"),
        ("a.jsonl", '{"source": "a", "target": "b"}', "'target'; .*--architecture encoder-decoder"),
        ("a.tsv", "you\tthou\nhat\that\n", "got 'you', 'thou'; .*--architecture encoder-decoder"),
        ("a.csv", "", "expected a column 'text', got none"),
        (
            "a.csv",
            "id,text\n1,a\n\n2,b,c\n",
            "line 4: expected 2 fields, as in the first row, got 3",
        ),
        ("a.csv", 'text\n"a\nb"\n"c" d\n', "line 4: expected a row of a table, got: "),
        ("a.csv", 'text\na\n"b\nc\n', "line 3: expected a row of a table, got: unexpected end"),
        ("a.csv", b"text\na\ncaf\xe9\n", "binary or not UTF-8 at byte 10"),
        ("a.csv", "text\n\n", "expected text to train on, got none"),
        (
            "a.parquet",
            "PAR1, not",
            "expected a whole Parquet file in .*a.parquet, got a damaged one",
        ),
    ],
)
def test_a_mistake_is_one_line(tmp_path, name, content, message):
    if name == "a.parquet":
        pytest.importorskip("pyarrow", reason=NO_PYARROW)
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        load_corpus([str(path)])
    assert str(path) in str(caught.value)


def test_a_line_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MAX_LINE_CHARS", 40)
    (tmp_path / "a.jsonl").write_text(OBJECT + '{"text": "' + "b" * 40)
    with pytest.raises(InputError, match="a.jsonl, line 2: expected fewer than 40 characters"):
        load_corpus([str(tmp_path / "a.jsonl")])
    (tmp_path / "b.csv").write_text('text\n"' + "b\n" * 40)
    with pytest.raises(InputError, match="b.csv, line 2: .*field larger than field limit"):
        load_corpus([str(tmp_path / "b.csv")])


def test_parquet_of_other_things(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason=NO_PYARROW)
    parquet = pytest.importorskip("pyarrow.parquet", reason=NO_PYARROW)
    path = tmp_path / "a.parquet"
    table = {"id": [1], "words": [["a"]], "text": pyarrow.array(["b"]).dictionary_encode()}
    parquet.write_table(pyarrow.table(table), path)
    assert load_corpus([str(path)]) == "b\n\n"
    for column, kind in (("id", "int64"), ("words", "list")):
        with pytest.raises(
            InputError, match=f"expected texts in the column '{column}', got {kind}"
        ):
            load_corpus([str(path)], column)
    with pytest.raises(InputError, match="expected a column 'story', got 'id', 'words', 'text'"):
        load_corpus([str(path)], "story")


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_records_are_a_text_or_a_mistake(tmp_path, suffix):
    path, rng, num_mistakes = write(tmp_path / f"a.{suffix}", documents()), random.Random(1), 0
    data = path.read_bytes()
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([len(data), rng.randrange(len(data))])])
        try:
            list(read_files([str(path)]))
        except InputError as error:
            num_mistakes += 1
            assert path.name in str(error)
    assert num_mistakes > 20


def test_without_pyarrow(tmp_path, monkeypatch):
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="a.parquet: .*need pyarrow: pip install pyarrow"):
        load_corpus([str(tmp_path / "a.parquet")])
