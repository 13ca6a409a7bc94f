"""Text <-> token ids. Offline, and without TensorFlow."""

import json
import os
import random
import re

import numpy as np
import pytest
import tokenizers

from neo_keras.errors import InputError
from neo_keras.text.tokenizer import Tokenizer

ALPHABET = "ab \n\r\té€😀\ufffd\0"


def test_ids_by_hand():
    tokenizer = Tokenizer.characters_of("banana\n")  # "\n" 0, a 1, b 2, n 3, <unk> 4
    token_ids = tokenizer.encode("ban\nnab")
    assert token_ids.dtype == np.int32
    assert token_ids.tolist() == [2, 1, 3, 0, 3, 1, 2]
    assert tokenizer.decode(token_ids) == "ban\nnab"
    assert tokenizer.decode([2, 1, 4]) == "ba<unk>"
    assert (tokenizer.vocab_size, tokenizer.unk_token_id) == (5, 4)


def test_empty_text():
    tokenizer = Tokenizer.characters_of("ab")
    token_ids = tokenizer.encode("")
    assert (token_ids.shape, token_ids.dtype) == ((0,), np.int32)
    assert tokenizer.decode(token_ids) == tokenizer.decode([]) == ""


def test_the_name_of_the_unknown_token_is_ordinary_text():
    tokenizer = Tokenizer.characters_of("<unk>")  # < 0, > 1, k 2, n 3, u 4, <unk> 5
    assert tokenizer.encode("<unk>").tolist() == [0, 4, 3, 2, 1]


@pytest.mark.parametrize("length", [1, 255, 256, 257, 1000, 256 * 1024 + 3])
def test_round_trip(length):
    text = "".join(random.Random(length).choices(ALPHABET, k=length))
    tokenizer = Tokenizer.characters_of(ALPHABET)
    token_ids = tokenizer.encode(text)
    assert token_ids.tolist() == [sorted(ALPHABET).index(character) for character in text]
    assert tokenizer.decode(token_ids) == text


def test_unknown_characters():
    tokenizer = Tokenizer.characters_of("abc")
    assert tokenizer.encode("a€bé€\n").tolist() == [0, 3, 1, 3, 3, 3]
    assert tokenizer.unknown_in("a€bé€\n") == ["\n", "é", "€"]
    assert tokenizer.unknown_in("abba" * 1000) == tokenizer.unknown_in("") == []


def test_bytes_that_are_no_text():
    tokenizer = Tokenizer.characters_of("ab")
    assert tokenizer.encode("a\udce9b").tolist() == [0, 2, 1]
    assert tokenizer.unknown_in("a\udce9b") == ["\ufffd"]


def test_json_is_the_structure_that_others_load():
    fields = json.loads(Tokenizer.characters_of("ba").to_json())
    assert fields["model"] == {
        "type": "WordLevel",
        "vocab": {"a": 0, "b": 1, "<unk>": 2},
        "unk_token": "<unk>",
    }
    assert fields["pre_tokenizer"] == {
        "type": "Split",
        "pattern": {"Regex": r"[\s\S]"},
        "behavior": "Isolated",
        "invert": False,
    }
    assert fields["decoder"] == {"type": "Fuse"}
    assert fields["normalizer"] is fields["post_processor"] is None
    assert fields["added_tokens"] == []


def test_plain_tokenizers_give_the_same_ids(tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer.characters_of(ALPHABET)
    tokenizer.save(path)
    assert os.listdir(tmp_path) == ["tokenizer.json"]
    text = "".join(random.Random(0).choices(ALPHABET + "?", k=1000))
    plain = tokenizers.Tokenizer.from_file(str(path))
    assert plain.encode(text).ids == tokenizer.encode(text).tolist()
    assert plain.encode(text).ids == Tokenizer.load(path).encode(text).tolist()


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("No space left on device")

    path = tmp_path / "tokenizer.json"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        Tokenizer.characters_of("a").save(path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"not JSON", b"\xff\xfe", b'{"model":1}'])
def test_not_a_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{path}: expected")):
        Tokenizer.load(path)


def test_from_json():
    tokenizer = Tokenizer.characters_of("ba")
    assert Tokenizer.from_json(tokenizer.to_json()).encode("ab").tolist() == [0, 1]
    with pytest.raises(InputError, match="expected a Hugging Face tokenizer.json.*; pass"):
        Tokenizer.from_json("{}")


def test_missing_tokenizer(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}/none.json: expected")):
        Tokenizer.load(tmp_path / "none.json")
    with pytest.raises(InputError, match="directory"):
        Tokenizer.load(tmp_path)


def test_stream_of_characters():
    tokenizer = Tokenizer.characters_of(ALPHABET)
    assert list(tokenizer.stream(tokenizer.encode("a \n😀é "))) == list("a \n😀é ")
    assert list(tokenizer.stream([])) == []
