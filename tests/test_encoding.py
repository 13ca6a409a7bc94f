"""A text becomes tokens in a file, and losses become bits per character."""

import math
import os
import random
import tempfile

import numpy as np
import pytest

from neo_keras import files
from neo_keras.errors import FailedError
from neo_keras.text import kinds
from neo_keras.text.corpus import Corpus, open_corpus
from neo_keras.text.encoding import encode_text
from neo_keras.text.learning import make_tokenizer
from neo_keras.text.tokenizer import Tokenizer


def encode(tokenizer, texts):
    return encode_text(tokenizer, texts, tempfile.TemporaryFile())


@pytest.mark.parametrize("name", kinds.KINDS)
def test_the_tokens_are_those_of_the_whole_text(name, tmp_path):
    words = ["the ", "été ", "\n", "日本 ", "x\n", ". "]
    text = "".join(random.Random(2).choices(words, k=300_000))
    (tmp_path / "text.txt").write_text(text)
    tokenizer = make_tokenizer(name, [text])
    encoded = encode(tokenizer, open_corpus([str(tmp_path / "text.txt")]))
    np.testing.assert_array_equal(encoded.token_ids, tokenizer.encode(text))
    assert encoded.token_ids.dtype == ("uint16" if name == "bpe" else "uint8")
    assert isinstance(encoded.token_ids, np.memmap)
    assert (encoded.num_chars, encoded.num_unknown, encoded.unknown_bytes) == (len(text), 0, 0)
    assert encoded.tokens_per_char == len(encoded.token_ids) / len(text)
    with pytest.raises(ValueError, match="read-only"):
        encoded.token_ids[0] = 1


@pytest.mark.parametrize(("size", "dtype"), [(256, "uint8"), (257, "uint16"), (70_000, "uint32")])
def test_ids_are_as_narrow_as_they_can_be(size, dtype):
    characters = [chr(0x10000 + i) for i in range(size - 1)]
    tokenizer = Tokenizer(kinds.from_tokens("char", characters))
    assert tokenizer.vocab_size == size
    encoded = encode(tokenizer, [characters[0] + characters[-1] + "?"])
    assert (encoded.token_ids.tolist(), encoded.token_ids.dtype) == ([0, size - 2, size - 1], dtype)


def test_bits_per_char_by_hand():
    """One token of four has 4 characters: each of them costs 1 / 4 of its bits."""
    tokenizer = Tokenizer(kinds.from_tokens("word", ["four", " "]))
    encoded = encode(tokenizer, ["four four", " four"])
    assert (encoded.num_chars, len(encoded.token_ids)) == (14, 5)
    # 2 bits a token
    assert encoded.bits_per_char(2 * math.log(2)) == pytest.approx(5 * 2 / 14)


def test_what_is_unknown_costs_its_bytes():
    tokenizer = Tokenizer(kinds.from_tokens("word", ["four", " "]))
    encoded = encode(tokenizer, ["four été four\n"])
    # "été" is 5 bytes and the line break 1, and each takes one more, to end it.
    assert encoded.token_ids.tolist() == [0, 1, 2, 1, 0, 2]
    assert (encoded.num_unknown, encoded.unknown_bytes) == (2, 6 + 2)
    assert encoded.bits_per_char(math.log(2)) == pytest.approx((6 * 1 + 8 * 8) / 14)


def test_all_tokenizers_agree_on_a_model_that_knows_nothing(tiny_corpus_text):
    """A byte at random takes 8 bits, whether a model or `unknown_bytes` says so."""
    byte = encode(make_tokenizer("byte", []), [tiny_corpus_text])
    assert byte.bits_per_char(math.log(256)) == pytest.approx(8)
    nothing = encode(Tokenizer.characters_of(""), [tiny_corpus_text])
    assert nothing.num_unknown == len(tiny_corpus_text)
    assert nothing.bits_per_char(0.0) == pytest.approx(16)  # a byte, and a byte to end it


def test_no_text():
    encoded = encode(make_tokenizer("byte", []), [])
    assert (len(encoded.token_ids), encoded.num_chars) == (0, 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_no_room():
    with pytest.raises(
        FailedError, match="cannot write the text's token ids .*No space left.*make room"
    ):
        encode_text(make_tokenizer("byte", []), ["text"], open("/dev/full", "wb"))


def test_a_nameless_file(tmp_path):
    with files.nameless_file(tmp_path) as file:
        file.write(b"abc")
        file.flush()
        assert os.listdir(tmp_path) == []
        array = np.memmap(file, "uint8", "r")
    assert bytes(array) == b"abc"  # though it is closed


def test_a_nameless_file_takes_the_nearest_directory(tmp_path, monkeypatch):
    places = []
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: places.append(dir))
    (tmp_path / "file").write_text("")
    for path in ("", "run", "runs/run", "file", "file/run"):
        files.nameless_file(tmp_path / path)
    assert places == [tmp_path] * 5


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_parts_of_a_corpus(size):
    text = "0123456789" * 7 + "abc"
    parts = [text[i : i + size] for i in range(0, len(text), size)]
    corpus = Corpus(lambda: iter(parts), 0, len(text))
    assert len(corpus) == 73 and "".join(corpus) == "".join(corpus) == text
    training, validation = corpus.split()
    assert (len(training), len(validation)) == (65, 8)
    assert "".join(training) == text[:65] and "".join(validation) == text[65:]
    assert (validation.head(3), validation.head(100)) == (text[65:68], text[65:])
