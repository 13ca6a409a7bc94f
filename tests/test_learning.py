"""Which tokenizer a person gets, and what it is learned from."""

import re

import pytest
import tokenizers
from tokenizers import models

from neo_keras.errors import InputError
from neo_keras.text import chunks, tokenizer_models
from neo_keras.text.corpus import open_corpus
from neo_keras.text.tokenizer import Tokenizer, make_tokenizer


@pytest.mark.parametrize("name", tokenizer_models.KINDS)
def test_by_name(name, tiny_corpus_text):
    # Twice, so that no word is too rare; in two parts, of which one ends within a word.
    text = f"{tiny_corpus_text}\n{tiny_corpus_text}\n"
    tokenizer = make_tokenizer(name, [text[:3001], text[3001:]])
    assert tokenizer.kind == name
    token_ids = tokenizer.encode(tiny_corpus_text)
    assert tokenizer.decode(token_ids) == tiny_corpus_text
    longest = {"char": 1, "word": 11, "bpe": 40, "byte": 1}[name]
    assert max(len(tokenizer.token_bytes(i)) for i in token_ids) <= longest
    # The same each time, though the library counts in parallel.
    again = make_tokenizer(name, [text])
    assert again.to_json() == tokenizer.to_json()


@pytest.mark.parametrize("name", [pytest.param("word", marks=pytest.mark.exhaustive), "bpe"])
def test_vocab_size(name, tiny_corpus_text):
    texts = open_corpus().text
    default = {"word": 8192, "bpe": 1024}[name]
    assert make_tokenizer(name, texts).vocab_size == default
    assert make_tokenizer(name, texts, 307).vocab_size == 307
    # There is no more to learn from a small text.
    assert make_tokenizer(name, [tiny_corpus_text]).vocab_size < default


def test_by_path(tmp_path, tiny_corpus_text):
    path = tmp_path / "tokenizer.json"
    expected = make_tokenizer("bpe", [tiny_corpus_text], 300)
    expected.save(path)
    assert make_tokenizer(str(path), ["other text"]).to_json() == expected.to_json()


def test_the_largest_and_the_smallest():
    text = "a b a b a"
    assert make_tokenizer("word", [text], 2).encode("a b").tolist() == [1, 0, 1]  # " " and <unk>
    assert make_tokenizer("bpe", [text], 256).encode("a b").tolist() != [97, 32, 98]
    assert (
        make_tokenizer("bpe", [text], 2**20).vocab_size == 258
    )  # " a" and " b": each stands there twice


@pytest.mark.parametrize("name", ["char", "word", "bpe"])
def test_no_text(name):
    assert make_tokenizer(name, []).vocab_size == {"char": 1, "word": 1, "bpe": 256}[name]


@pytest.mark.parametrize(
    ("name", "vocab_size", "match"),
    [
        ("bpe", 255, r"of bpe must be from 256 \(one token for each byte\) to 1048576, got 255"),
        ("bpe", 10**9, "to 1048576, got 1000000000"),
        ("bpe", 0, "got 0"),
        ("word", 1, r"of word must be from 2 \(a word and the unknown token\) .* got 1"),
        ("word", -5, "got -5"),
        ("char", 100, "is of word and bpe, .*; the tokenizer char has a size of its own"),
        ("byte", 256, "the tokenizer byte has a size of its own: leave it out"),
        (__file__, 300, r"test_learning\.py has a size of its own"),
        ("chars", None, "must be one of char, word, bpe, byte or the path .* got 'chars'"),
        ("no/tokenizer.json", None, "got 'no/tokenizer.json', which is no file"),
        (__file__, None, re.escape(f"{__file__}: expected a Hugging Face tokenizer.json")),
    ],
)
def test_bad_requests(name, vocab_size, match):
    with pytest.raises(InputError, match=match):
        make_tokenizer(name, ["text"], vocab_size)


def test_a_tokenizer_without_an_unknown_token(tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizers.Tokenizer(models.Unigram([("a", -1.0)])).save(str(path))
    with pytest.raises(InputError, match=f"{path}: expected a Unigram with a token .* no unk_id; "):
        make_tokenizer(str(path), ["text"])


def test_a_large_text_gives_pieces_from_all_its_parts(monkeypatch):
    # 40 parts of which each has a word of its own, in enough pieces
    texts = [f"part{i} " * 2000 for i in range(40)]
    num_chars = sum(map(len, texts))
    taken = []

    def learn(sample, vocab_size):
        taken.extend(sample)
        return tokenizer_models.single_bytes()

    monkeypatch.setattr(tokenizer_models, "train_bpe", learn)
    make_tokenizer("bpe", texts)
    assert sorted("".join(taken)) == sorted("".join(texts))  # nothing is left out
    taken.clear()
    monkeypatch.setattr(chunks, "MAX_SAMPLE_CHARS", num_chars // 5)
    make_tokenizer("bpe", texts)
    assert num_chars / 6 < sum(map(len, taken)) <= num_chars / 5 + chunks.MAX_CHUNK_CHARS
    assert {word for piece in taken for word in piece.split()} == {f"part{i}" for i in range(40)}
    taken.clear()
    # Each part has one more word, of 5 or 6 bytes.
    monkeypatch.setattr(chunks, "MAX_SAMPLE_WORD_BYTES", 50)
    make_tokenizer("bpe", texts)
    words = {word for piece in taken for word in piece.split()}
    assert 9 <= len(words) <= 12 and max(words) > "part3"


def test_learns_from_what_it_is_given_only(tmp_path):
    (tmp_path / "text.txt").write_text("the cat\n" * 90 + "zzz zzz\n" * 10)
    corpus = open_corpus([str(tmp_path / "text.txt")])
    training, validation = corpus.training, "".join(corpus.validation)
    assert validation == "zzz zzz\n" * 10
    assert make_tokenizer("char", training).unknown_in(validation) == ["z"]
    assert make_tokenizer("word", training).unknown_in(validation) == ["zzz"]
    tokenizer = make_tokenizer("bpe", training)
    pieces = [tokenizer.token_bytes(i) for i in range(256, tokenizer.vocab_size)]
    assert pieces and not [piece for piece in pieces if b"z" in piece]
    assert Tokenizer.from_json(tokenizer.to_json()).decode(tokenizer.encode("zzz")) == "zzz"
