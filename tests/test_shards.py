"""Large texts are cut into shards."""

import hashlib
import random

import numpy as np
import pytest
from tiny_texts import CHUNK_BYTES, whole

from neo_keras.text import formats, tokenizer_models
from neo_keras.text.corpus import open_corpus
from neo_keras.text.encoding import ConcatTokens, encode_text, token_files_directory
from neo_keras.text.tokenizer import make_tokenizer

pytest_plugins = ["shard_fixtures"]
pytestmark = pytest.mark.usefixtures("tiny_shards")


def test_shards_are_the_text(texts, encoded_shards):
    corpus, text = open_corpus([str(texts)]), whole(texts)
    assert "".join(corpus.text) == text and len(corpus.text) == len(text)
    assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()
    encode_text(make_tokenizer("byte", []), corpus.text)
    assert "".join(encoded_shards) == text and len(encoded_shards) > 25
    sizes = [len(shard.encode()) for shard in encoded_shards]
    assert min(sizes[:-1]) > 200 - CHUNK_BYTES and max(sizes) <= 700 + 2 * CHUNK_BYTES


def test_the_parts_of_a_corpus(texts, monkeypatch):
    corpus, text = open_corpus([str(texts)]), whole(texts)
    training, validation = corpus.training, corpus.validation
    cut = int(len(text) * 0.9)
    assert (len(training), len(validation)) == (cut, len(text) - cut)
    assert "".join(training) == text[:cut]
    monkeypatch.setattr(formats, "open", None, raising=False)
    assert "".join(validation) == text[cut:]  # it is in memory


@pytest.mark.parametrize("name", tokenizer_models.KINDS)
def test_shards_have_the_tokens_of_the_whole_text(name, texts):
    text = whole(texts)
    tokenizer = make_tokenizer(name, [text, text], {"bpe": 300, "word": 99}.get(name))
    encoded = encode_text(tokenizer, open_corpus([str(texts)]).text)
    assert isinstance(encoded.token_ids, ConcatTokens)
    assert len(list(token_files_directory().glob("*.tokens"))) > 25
    expected = tokenizer.encode(text)
    np.testing.assert_array_equal(encoded.token_ids[:], expected)
    assert encoded.token_ids.dtype == ("uint16" if name == "bpe" else "uint8")
    assert (encoded.num_chars, encoded.num_unknown, encoded.unknown_bytes) == (len(text), 0, 0)


@pytest.mark.parametrize("name", ["char", "word"])
def test_what_shards_do_not_know(name, texts):
    text = whole(texts)
    tokenizer = make_tokenizer(name, ["the cat, the cat\n"] * 2)
    for _ in ("encoded", "from files"):
        encoded = encode_text(tokenizer, open_corpus([str(texts)]).text)
        expected = tokenizer.encode(text)
        np.testing.assert_array_equal(encoded.token_ids[:], expected)
        unknown = expected == tokenizer.unk_token_id
        known_bytes = sum(len(tokenizer.token_bytes(i)) for i in expected[~unknown])
        assert encoded.num_unknown == unknown.sum() > 0
        assert encoded.unknown_bytes == len(text.encode()) - known_bytes + unknown.sum()


def test_a_text_without_any_boundary_is_cut_all_the_same(texts, encoded_shards):
    (texts / "b").write_text("".join(random.Random(1).choices("xyz", k=5000)))
    encode_text(make_tokenizer("byte", []), open_corpus([str(texts)]).text)
    assert "".join(encoded_shards) == whole(texts)
    assert max(len(shard.encode()) for shard in encoded_shards) <= 700 + 2 * CHUNK_BYTES
