"""Records of text: JSON Lines, tables and Parquet hold the documents of a text."""

import multiprocessing
import os
import signal
import tracemalloc

import numpy as np
import pytest
from record_files import FORMATS, documents, text_of, write
from tiny_texts import CHUNK_BYTES
from waits import HANG_SECONDS

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.text import encoding, formats, tokenizer_models
from neo_keras.text.corpus import load_corpus, open_corpus
from neo_keras.text.encoding import encode_text, token_files_directory
from neo_keras.text.formats import read_files
from neo_keras.text.tokenizer import Tokenizer, make_tokenizer
from neo_keras.training.start import resume_run, start_run

pytest_plugins = ["shard_fixtures"]

SMALL = dict(num_layers=1, num_heads=1, hidden_dim=8, max_seq_len=5, steps=20, warmup_steps=1)


@pytest.fixture(params=FORMATS)
def records(request, tmp_path, tiny_shards):
    """(a file of records, the text that they are)."""
    texts = documents()
    path = write(tmp_path / f"records.{request.param}", texts)
    if request.param == "tsv":  # which has no line ends in a field
        texts = [" ".join((text or "").split()) for text in texts]
    return path, text_of(texts)


def test_records_are_the_text(records):
    path, text = records
    corpus = open_corpus([str(path)])
    assert "".join(corpus.text) == text
    assert "".join(corpus.validation) == text[int(len(text) * 0.9) :]


@pytest.mark.parametrize("kind", tokenizer_models.KINDS)
def test_tokens_are_those_of_the_same_text(records, tmp_path, kind):
    path, text = records
    (tmp_path / "same.txt").write_text(text, encoding="utf-8")
    plain, corpus = open_corpus([str(tmp_path / "same.txt")]), open_corpus([str(path)])
    assert corpus.sha256 == plain.sha256
    tokenizer = make_tokenizer(kind, plain.training, {"bpe": 300, "word": 99}.get(kind))
    for ours, expected in (
        (corpus.training, plain.training),
        (corpus.validation, plain.validation),
    ):
        ours, expected = encode_text(tokenizer, ours), encode_text(tokenizer, expected)
        np.testing.assert_array_equal(ours.token_ids[:], expected.token_ids[:])
        assert ours.bits_per_char(1) == expected.bits_per_char(1)


def test_files_of_all_formats_are_one_text(tmp_path):
    (tmp_path / "1.txt").write_text("no line end")
    write(tmp_path / "2.jsonl", ["a\n", "b"])
    write(tmp_path / "3.csv", ["c"])
    (tmp_path / "4.txt").write_text("d\n")
    assert load_corpus([str(tmp_path)]) == "no line end\na\n\n\nb\n\nc\n\nd\n"


def test_another_column(tmp_path):
    path = str(write(tmp_path / "a.csv", ["x", "y"], column="story"))
    assert load_corpus([path], "story") == "x\n\ny\n\n"
    assert load_corpus([path], column="id") == "0\n\n1\n\n"
    with pytest.raises(
        InputError, match="a.csv, line 1: expected a column 'text', got 'id', 'story'; .*--column"
    ):
        load_corpus([path])
    with pytest.raises(InputError, match="--column. is of .*, got none: leave it out"):
        open_corpus([], "story")
    (tmp_path / "b.txt").write_text("text")
    with pytest.raises(InputError, match=r"--column\) is of .jsonl, .*got .*b.txt: leave it out"):
        load_corpus([str(tmp_path / "b.txt")], "story")


def test_an_end_token_ends_a_document(tmp_path):
    path = write(tmp_path / "a.jsonl", ["ab\n", "b", "ca"])
    tokenizer = Tokenizer.characters_of("abc\n").with_end_token()
    assert Tokenizer.characters_of("abc").document_end == "\n\n"
    corpus = open_corpus([str(path)], document_end=tokenizer.document_end)
    end = tokenizer.end_token_id
    ids = encode_text(tokenizer, corpus.text).token_ids.tolist()
    assert ids == [1, 2, 0, end, 2, end, 3, 1, end]


def test_a_gzip_file_is_unpacked_from_the_beginning_few_times(tmp_path, tiny_shards, monkeypatch):
    path, opened = write(tmp_path / "a.jsonl.gz", documents()), []
    monkeypatch.setattr(formats, "open", lambda *a: opened.append(a[0]) or open(*a), raising=False)
    corpus = open_corpus([str(path)])
    tokenizer = corpus.make_tokenizer("byte").with_end_token()
    corpus.tokenize(tokenizer, ModelConfig(257, 5))
    assert text_of(documents()).endswith(corpus.excerpt)
    assert len(opened) == 2  # to find the shards, and to encode them
    assert "".join(corpus.text) == text_of(documents())


def kill_at(number, path):
    """Encodes records in a process that is killed amid a shard; a target of `multiprocessing`."""
    encode, calls = encoding._encode, []

    def die(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(*arguments)

    encoding._encode = die
    encode_text(make_tokenizer("byte", []), open_corpus([path]).text)


def test_a_start_that_was_killed_goes_on(records, encoded_shards):
    path, text = records
    process = multiprocessing.get_context("fork").Process(target=kill_at, args=(7, str(path)))
    process.start()
    process.join(HANG_SECONDS)
    assert process.exitcode == -signal.SIGKILL
    assert len(list(token_files_directory().glob("*.tokens"))) == 6
    encoded = encode_text(make_tokenizer("byte", []), open_corpus([str(path)]).text)
    assert bytes(encoded.token_ids[:]).decode() == text
    done = "".join(encoded_shards)
    assert text.endswith(done) and len(done) < len(text)
    encoded_shards.clear()
    encode_text(make_tokenizer("byte", []), open_corpus([str(path)]).text)
    assert encoded_shards == []


def test_records_that_change_are_noticed(tmp_path, tiny_shards):
    path = write(tmp_path / "a.csv", documents())
    corpus = open_corpus([str(path)])
    path.write_bytes(path.read_bytes().replace(b"the", b"The"))
    with pytest.raises(InputError, match="changed while it was read: start again"):
        encode_text(make_tokenizer("byte", []), corpus.text)


@pytest.mark.parametrize("suffix", ["txt", "jsonl", "csv.gz", "parquet"])
def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch, suffix):
    """Of what Python has at a time; Parquet's buffers are beside it."""
    monkeypatch.setattr(formats, "CHUNK_BYTES", 2**14)
    texts = [CHUNK_BYTES * f"{i} " for i in range(5000)]
    path = tmp_path / f"a.{suffix}"
    path.write_text(text_of(texts)) if suffix == "txt" else write(path, texts)
    list(read_files([str(path)]))  # what is imported stays
    tracemalloc.start()
    try:
        size = sum(map(len, read_files([str(path)])))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 1_000_000 and peak < size / 5


def test_a_run_knows_its_column(tmp_path):
    path = write(tmp_path / "a.jsonl", ["some words", "and some more"] * 20, column="story")
    run, corpus = start_run(tmp_path / "run", [str(path)], column="story", **SMALL)
    assert run.load_validation_text().count("\n\n") == 4
    _, again = resume_run(tmp_path / "run")
    assert again.training.num_chars == corpus.training.num_chars
    resume_run(tmp_path / "run", column="story")
    with pytest.raises(InputError, match="keeps its column"):
        resume_run(tmp_path / "run", column="id")


def test_an_encoder_decoder_continues_a_column_that_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", ["some words", "and some more"] * 20)
    settings = dict(architecture="encoder-decoder", num_speculative_tokens=0, **SMALL)
    run, _ = start_run(tmp_path / "run", [str(path)], column="text", **settings)
    assert run.model_config.end_token_id is None
    with pytest.raises(InputError, match="line 1: expected {.source.*with --column"):
        start_run(tmp_path / "other", [str(path)], **settings)
