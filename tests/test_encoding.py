"""A text becomes tokens in a file, and losses become bits per character."""

import math
import random

import numpy as np
import pytest

from neo_keras.text import tokenizer_models
from neo_keras.text.corpus import open_corpus
from neo_keras.text.encoding import Text, encode_text
from neo_keras.text.tokenizer import Tokenizer, make_tokenizer


def encode(tokenizer, text):
    return encode_text(tokenizer, Text.in_memory(text))


@pytest.mark.parametrize("name", tokenizer_models.KINDS)
def test_the_tokens_are_those_of_the_whole_text(name, tmp_path):
    words = ["the ", "été ", "\n", "日本 ", "x\n", ". "]
    text = "".join(random.Random(2).choices(words, k=300_000))
    (tmp_path / "text.txt").write_text(text)
    tokenizer = make_tokenizer(name, [text])
    encoded = encode_text(tokenizer, open_corpus([str(tmp_path / "text.txt")]).text)
    np.testing.assert_array_equal(encoded.token_ids, tokenizer.encode(text))
    assert encoded.token_ids.dtype == ("uint16" if name == "bpe" else "uint8")
    assert (encoded.num_chars, encoded.num_unknown, encoded.unknown_bytes) == (len(text), 0, 0)
    assert encoded.tokens_per_char == len(encoded.token_ids) / len(text)


@pytest.mark.parametrize(("size", "dtype"), [(256, "uint8"), (257, "uint16"), (70_000, "uint32")])
def test_ids_are_as_narrow_as_they_can_be(size, dtype):
    characters = [chr(0x10000 + i) for i in range(size - 1)]
    tokenizer = Tokenizer(tokenizer_models.from_tokens(tokenizer_models.CHARACTER, characters))
    assert tokenizer.vocab_size == size
    encoded = encode(tokenizer, characters[0] + characters[-1] + "?")
    assert (encoded.token_ids.tolist(), encoded.token_ids.dtype) == ([0, size - 2, size - 1], dtype)


def test_bits_per_char_by_hand():
    """One token of four has 4 characters: each of them costs 1 / 4 of its bits."""
    tokenizer = Tokenizer(tokenizer_models.from_tokens(tokenizer_models.WORD, ["four", " "]))
    encoded = encode(tokenizer, "four four four")
    assert (encoded.num_chars, len(encoded.token_ids)) == (14, 5)
    # 2 bits a token
    assert encoded.bits_per_char(2 * math.log(2)) == pytest.approx(5 * 2 / 14)


def test_what_is_unknown_costs_its_bytes():
    tokenizer = Tokenizer(tokenizer_models.from_tokens(tokenizer_models.WORD, ["four", " "]))
    encoded = encode(tokenizer, "four été four\n")
    # "été" is 5 bytes and the line break 1, and each takes one more, to end it.
    assert encoded.token_ids.tolist() == [0, 1, 2, 1, 0, 2]
    assert (encoded.num_unknown, encoded.unknown_bytes) == (2, 6 + 2)
    assert encoded.bits_per_char(math.log(2)) == pytest.approx((6 * 1 + 8 * 8) / 14)


def test_all_tokenizers_agree_on_a_model_that_knows_nothing(tiny_corpus_text):
    """A byte at random takes 8 bits, whether a model or `unknown_bytes` says so."""
    byte = encode(make_tokenizer("byte", []), tiny_corpus_text)
    assert byte.bits_per_char(math.log(256)) == pytest.approx(8)
    nothing = encode(Tokenizer.characters_of(""), tiny_corpus_text)
    assert nothing.num_unknown == len(tiny_corpus_text)
    assert nothing.bits_per_char(0.0) == pytest.approx(16)  # a byte, and a byte to end it


def test_no_text():
    encoded = encode(make_tokenizer("byte", []), "")
    assert (len(encoded.token_ids), encoded.num_chars) == (0, 0)
