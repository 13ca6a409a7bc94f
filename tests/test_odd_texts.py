"""Texts, prompts and names that are not what a tokenizer, a model or a library expects."""

import argparse
import gzip
import io
import random
import runpy

import pytest
from tiny_models import ROOT

from neo_keras.atomic_files import plainly_named
from neo_keras.errors import InputError
from neo_keras.generation.interactive import answer_lines
from neo_keras.text import tokenizer_models
from neo_keras.text.chunks import MAX_SAMPLE_WORD_CHARS
from neo_keras.text.tokenizer import make_tokenizer


@pytest.mark.parametrize("width", [20_000, 60])
def test_words_of_a_text_that_has_none(width):
    letters = "".join(random.Random(1).choices("ACGT", k=20_000))
    lines = [letters[i : i + width] + "\n" for i in range(0, len(letters), width)]
    with pytest.raises(InputError, match=r"got one where no word comes twice: use char or bpe"):
        make_tokenizer("word", lines)
    assert make_tokenizer("word", [*lines, "twice twice"]).unknown_in("twice") == []


def test_bpe_learns_from_words_of_limited_length(monkeypatch):
    """Its time grows with the square of their length: a minute of DNA became two seconds."""
    taken = []
    monkeypatch.setattr(
        tokenizer_models, "train_bpe", lambda texts, size: taken.extend(texts) or BYTES
    )
    text = "".join(random.Random(1).choices("ACGT", k=100_000)) + " and words\n" + "x" * 256 + " y"
    make_tokenizer("bpe", [text])
    words = [word for part in taken for word in part.split()]
    assert max(map(len, words)) == MAX_SAMPLE_WORD_CHARS
    assert sorted("".join(taken)) == sorted(text)  # nothing is left out
    assert {"and", "words", "x" * 256, "y"} <= set(words)


BYTES = tokenizer_models.single_bytes()


@pytest.mark.parametrize("name", ["a[1]", "[", "a*b", "a?", "a\\b", "caf\udce9"])
def test_a_plain_name_of_a_directory(tmp_path, name):
    directory = tmp_path / name
    directory.mkdir()
    with plainly_named(directory) as plain:
        assert plain.encode() and not set(plain) & set("[]*?\\")
        with open(f"{plain}/file", "w") as file:
            file.write("text")
    assert (directory / "file").read_text() == "text"
    with plainly_named(tmp_path) as plain:
        assert plain == str(tmp_path)


PROMPTS = {
    "a\r\n\r\rb\x85": "a\n\n\nb\n",
    "\ufeffa\ufeff": "a",
    "caf\udce9": "caf\ufffd",
}


@pytest.mark.parametrize(("text", "expected"), PROMPTS.items())
def test_prompts_are_as_texts_are(tmp_path, monkeypatch, text, expected):
    read_prompt = runpy.run_path(str(ROOT / "generate.py"))["read_prompt"]
    assert read_prompt(argparse.Namespace(prompt=text, prompt_file=None)) == expected
    if "\udce9" not in text:
        path = tmp_path / "prompt.txt.gz"
        path.write_bytes(gzip.compress(text.encode()))
        assert read_prompt(argparse.Namespace(prompt="", prompt_file=str(path))) == expected
    asked = []
    lines = io.TextIOWrapper(io.BytesIO(f"{text}\nlast".encode(errors="surrogateescape")), "utf-8")
    monkeypatch.setattr("sys.stdin", lines)
    answer_lines(lambda prompt: asked.append(prompt) or [])
    assert asked == [*filter(None, expected.split("\n")), "last"]
