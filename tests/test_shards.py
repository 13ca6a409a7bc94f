"""Large texts are cut into shards."""

import hashlib
import os

import numpy as np
import pytest
from tiny_texts import CHUNK_BYTES, shards_of, whole

from neo_keras.text import readers, shards, tokenizer_models
from neo_keras.text.corpus import open_corpus
from neo_keras.text.encoding import encode_text
from neo_keras.text.token_cache import ConcatTokens, token_files_directory
from neo_keras.text.tokenizer_training import make_tokenizer

pytest_plugins = ["shard_fixtures"]
pytestmark = pytest.mark.usefixtures("tiny_shards")


def test_shards_are_the_text(texts):
    corpus, text = open_corpus([str(texts)]), whole(texts)
    assert "".join(corpus) == text and len(corpus) == len(text)
    assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert len(corpus.text.shards) > 25
    sizes = []
    for shard, part in zip(corpus.text.shards, shards_of(corpus.text)):
        assert hashlib.sha256(part.encode()).hexdigest() == shard.digest.hexdigest()
        assert shard.num_chars == len(part)
        sizes.append(len(part.encode()))
    assert min(sizes[:-1]) > 200 - CHUNK_BYTES and max(sizes) <= 700 + 2 * CHUNK_BYTES
    assert "".join(shards_of(corpus.text)) == text


def test_a_part_of_the_text_is_read_from_where_it_begins(texts, monkeypatch):
    corpus, text = open_corpus([str(texts)]), whole(texts)
    training, validation = corpus.training, corpus.validation
    cut = int(len(text) * 0.9)
    assert ("".join(training), "".join(validation)) == (text[:cut], text[cut:])
    assert (len(training), len(validation)) == (cut, len(text) - cut)
    for part in (training, validation):
        assert "".join(shards_of(part)) == "".join(part)
    opened = []
    monkeypatch.setattr(readers, "open", lambda *a: opened.append(a[0]) or open(*a), raising=False)
    last = corpus.text.shards[-1]
    assert text.endswith("".join(corpus.text.read_shard(last, 17)))
    assert [os.path.basename(path) for path in opened] == ["d"]
    assert "".join(validation) == text[cut:] and len(opened) == 1  # it is in memory


@pytest.mark.parametrize("name", tokenizer_models.KINDS)
def test_shards_have_the_tokens_of_the_whole_text(name, texts):
    text = whole(texts)
    tokenizer = make_tokenizer(name, [text, text], {"bpe": 300, "word": 99}.get(name))
    encoded = encode_text(tokenizer, open_corpus([str(texts)]).text)
    assert isinstance(encoded.token_ids, ConcatTokens)
    assert len(list(token_files_directory().iterdir())) > 25
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


def test_a_text_without_any_boundary_is_cut_all_the_same(texts):
    (texts / "b").write_text("x" * 5000)
    parts = shards_of(open_corpus([str(texts)]).text)
    assert "".join(parts) == whole(texts)
    assert max(len(part.encode()) for part in parts) <= 700 + 2 * CHUNK_BYTES


@pytest.mark.parametrize("head_chars", [1024, 31])
def test_what_comes_after_a_shard(texts, monkeypatch, head_chars):
    monkeypatch.setattr(shards, "HEAD_CHARS", head_chars)
    training = open_corpus([str(texts)]).training
    text, stop = "".join(training), 0
    for number, shard in enumerate(training.shards):
        stop += shard.num_chars
        for num_chars in (0, 1, 31, 32, 1024, 1025):
            assert training.text_after(number, num_chars) == text[stop : stop + num_chars]
