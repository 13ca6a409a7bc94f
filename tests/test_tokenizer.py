"""Text <-> token ids. Offline, and without TensorFlow."""

import json
import os
import random
import re
import warnings

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from neo_keras.errors import InputError
from neo_keras.text.corpus import load_corpus
from neo_keras.text.tokenizer import Tokenizer

ALPHABET = "ab \n\r\té€😀\ufffd\0"


def _byte_level(text):
    hf = tokenizers.Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>"],
        show_progress=False,
    )
    hf.train_from_iterator([text], trainer)
    return hf


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


def test_round_trip_of_the_plays():
    text = load_corpus()
    tokenizer = Tokenizer.characters_of(text)
    token_ids = tokenizer.encode(text)
    assert token_ids.shape == (len(text),)
    assert tokenizer.decode(token_ids) == text


def test_unknown_characters():
    tokenizer = Tokenizer.characters_of("abc")
    with pytest.warns(UserWarning) as caught:
        token_ids = tokenizer.encode("a€bé€\n")
    assert token_ids.tolist() == [0, 3, 1, 3, 3, 3]
    assert [str(warning.message) for warning in caught] == [
        r"the model has never seen '\n', 'é', '€': replaced by <unk>"
    ]
    assert caught[0].filename == __file__


def test_many_unknown_characters():
    with pytest.warns(UserWarning, match=r"'0', .* '9' and 2 more: replaced by <unk>$"):
        Tokenizer.characters_of("a").encode("0123456789xy" * 100)


def test_bytes_that_are_no_text():
    with pytest.warns(UserWarning, match="'\ufffd': replaced"):
        assert Tokenizer.characters_of("ab").encode("a\udce9b").tolist() == [0, 2, 1]


def test_known_characters_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Tokenizer.characters_of("ab").encode("abba" * 1000)


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


@pytest.mark.filterwarnings("ignore:the model has never seen")
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
    step = tokenizer.stream()
    assert [step(token_id) for token_id in tokenizer.encode("a \n😀é ")] == list("a \n😀é ")


def test_stream_waits_for_the_bytes_of_a_character():
    tokenizer = Tokenizer(_byte_level("a"))
    step = tokenizer.stream()
    pieces = [step(token_id) for token_id in tokenizer.encode("aé😀 b")]
    assert pieces == ["a", "", "é", "", "", "", "😀", " ", "b"]
    assert tokenizer.unk_token_id is None


@pytest.mark.parametrize("seed", range(20))
def test_byte_level_ids_are_those_of_the_whole_text(seed):
    words = ["the", " the", "a", ".", "é", "\n", "\n\n", "\n\n\n", " \n ", "\r\n", "<|end|>", "😀"]
    hf = _byte_level("the\n\n\nthe\n\n\n \n the" * 50)
    assert hf.token_to_id("ĊĊ") is not None  # two newlines in one token: not every cut is safe
    text = "".join(random.Random(seed).choices(words, k=500))
    tokenizer = Tokenizer(hf)
    assert tokenizer.encode(text).tolist() == hf.encode(text).ids
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_tokenizer_that_marks_the_start_of_a_text_gets_it_whole():
    vocab = {"▁a": 0, "a": 1, "b": 2, "\n": 3, "?": 4}
    hf = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="?"))
    hf.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Split("\n", "isolated"),
        ]
    )
    token_ids = Tokenizer(hf).encode("a\nb\n" * 100)
    assert token_ids.tolist() == [0, 3, 2, 3] + [1, 3, 2, 3] * 99
