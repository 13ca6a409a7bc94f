"""What becomes of the bytes of a file: packed, with any line ends, damaged."""

import gzip
import random

import pytest

from neo_keras.errors import InputError
from neo_keras.text import formats
from neo_keras.text.corpus import load_corpus, open_corpus
from neo_keras.text.formats import normalize, normalize_string, read_files
from neo_keras.text.pairs import load_pairs

LINE_ENDS = {
    "a\rb\r": "a\nb\n",
    "a\r\r\nb": "a\nb",
    "a\r\r\r\nb": "a\n\nb",
    "a\r\n\r\nb\n\rc": "a\n\nb\n\nc",
    "a\x85b\u2028c\u2029d": "a\nb\nc\nd",
    "\ufeffa\ufeffb\n\ufeff\ufeffc": "ab\nc",
    "a\r\ufeff\nb": "a\n\nb",
    "\r": "\n",
    "\ufeff": "",
    "日本\r😀\r": "日本\n😀\n",
}


@pytest.mark.parametrize(("text", "expected"), LINE_ENDS.items())
def test_line_ends_and_marks(tmp_path, text, expected):
    assert normalize(text) == expected
    (tmp_path / "a.txt").write_bytes(f"x{text}x".encode())
    assert load_corpus([str(tmp_path / "a.txt")]) == f"x{expected}x"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_chunks_cut_no_line_end(tmp_path, monkeypatch, pack):
    """Nor a character."""
    rng, path = random.Random(5), tmp_path / "a.txt"
    text = "".join(rng.choices([*"\r\r\r\n\n\ufeff\x85xé日😀"], k=400))
    path.write_bytes(pack(text.encode()))
    for chunk_bytes in range(1, 12):
        monkeypatch.setattr(formats, "CHUNK_BYTES", chunk_bytes)
        assert "".join(read_files([str(path)])) == normalize(text)


def test_marks_of_joined_files(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(f"\ufeff{name}\r".encode())
    (tmp_path / "c").write_bytes((tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes())
    assert load_corpus([str(tmp_path)]) == "a\nb\na\nb\n"


def test_what_is_typed_or_escaped():
    assert normalize_string("a\r\n\ud83d \udce9\ufeff😀") == "a\n\ufffd \ufffd😀"


def test_gzip(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "CHUNK_BYTES", 61)
    text = "".join(f"line {i} é\n" for i in range(500))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"two ") + gzip.compress(b"members"))
    corpus = open_corpus([str(tmp_path)])
    assert "".join(corpus.text) == f"{text}two members"
    assert "".join(corpus.validation) == "".join(corpus.text)[len(corpus.training) :]
    pairs = tmp_path / "p.tsv.gz"
    pairs.write_bytes(gzip.compress(b"you\tthou\n"))
    assert load_pairs([str(pairs)]) == [("you", "thou")]


def damaged(data):
    yield data[:-9]
    yield data[:20]
    yield data + b"garbage"
    yield data[:30] + bytes([data[30] ^ 255]) + data[31:]
    yield data[:-8] + bytes(4) + data[-4:]
    yield data[:2]
    yield b"not packed"


@pytest.mark.parametrize("number", range(7))
def test_damaged_gzip(tmp_path, number):
    text = random.Random(3).randbytes(999).hex()
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(list(damaged(gzip.compress(text.encode())))[number])
    for read in (load_corpus, load_pairs):
        with pytest.raises(InputError, match=r"whole gzip file in .*a\.tsv\.gz, got a damaged"):
            read([str(path)])


def test_packed_binary(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"abc\xff"))
    with pytest.raises(InputError, match="binary or not UTF-8 at byte 3"):
        load_corpus([str(path)])


@pytest.mark.parametrize(
    ("name", "line", "pair"),
    [
        ("a.jsonl", r'{"source": "a", "target": "x \ud83d"}', ("a", "x \ufffd")),
        ("a.jsonl", r'{"source": "\ud83d\ude00", "target": "\ufeffx\r\ny\r"}', ("😀", "x\ny\n")),
        ("a.jsonl", '{"source": "a\u2028b\x85", "target": "\ufeffx"}', ("a\nb\n", "x")),
        ("a.tsv", "a\u2028b\tx\ufeff", ("a\nb", "x")),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\r\r\n", "\n\ufeff"])
def test_strings_of_pairs(tmp_path, name, line, pair, end):
    (tmp_path / name).write_bytes(f"\ufeff{line}{end}{line}".encode())
    assert load_pairs([str(tmp_path / name)]) == [pair, pair]


def test_a_pair_that_is_empty_once_it_is_cleaned(tmp_path):
    (tmp_path / "a.jsonl").write_text(r'{"source": "a", "target": "\ufeff"}')
    with pytest.raises(InputError, match="line 1: expected"):
        load_pairs([str(tmp_path / "a.jsonl")])
