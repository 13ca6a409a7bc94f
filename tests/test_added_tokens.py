"""Added tokens are never cut, and what changes the text around it is refused."""

import random
from collections.abc import Iterable

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import MAKE
from tokenizers import AddedToken
from tokenizers_with_added_tokens import MAKE_PLAIN, strewn_text, with_added_tokens

from neo_keras.errors import InputError
from neo_keras.text.encoding import Text, encode_text
from neo_keras.text.tokenizer import Tokenizer

TOKENIZERS = {name: with_added_tokens(name) for name in MAKE_PLAIN}
seeded = settings(max_examples=25, derandomize=True, deadline=None, database=None)


def cut_at_random(text: str, num_parts: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    places = sorted(rng.randrange(len(text) + 1) for _ in range(num_parts - 1))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)])]


def joined(parts: Iterable[tuple[str, np.ndarray]]) -> list[int]:
    return np.concatenate([ids for _, ids in parts]).tolist()


def text_of(parts: list[str]) -> Text:
    """A text that may be cut within each part."""
    return Text.open(lambda: parts)


@pytest.fixture(scope="module", params=TOKENIZERS)
def hf(request):
    return TOKENIZERS[request.param]


@seeded
@given(seed=st.integers(0, 2**32), num_chars=st.integers(1, 3000), num_parts=st.integers(1, 300))
def test_the_ids_are_those_of_the_whole_text(small_cuts, hf, seed, num_chars, num_parts):
    tokenizer, text = Tokenizer(hf), strewn_text(seed, num_chars)
    expected = hf.encode(text).ids
    assert tokenizer.encode(text).tolist() == expected
    parts = cut_at_random(text, num_parts, seed)
    assert joined(tokenizer.encode_parts(parts)) == expected
    parts = list(filter(None, parts))
    for _ in ("encoded", "from files"):
        encoded = encode_text(tokenizer, text_of(parts))
        assert encoded.token_ids[:].tolist() == expected
        assert encoded.num_chars == len(text)


@settings(seeded, max_examples=1)
@given(seed=st.integers(0, 2**32))
def test_a_long_text(hf, seed):
    tokenizer, text = Tokenizer(hf), strewn_text(seed, 100_000)
    expected = hf.encode(text).ids
    assert tokenizer.encode(text).tolist() == expected
    assert joined(tokenizer.encode_parts(cut_at_random(text, 50, seed))) == expected
    if tokenizer.unk_token_id is None:
        assert tokenizer.decode(expected) == "".join(tokenizer.stream(expected)) == text


@pytest.mark.parametrize("name", ["bpe", "gpt2"])
def test_a_long_text_without_any_space(name):
    text = "".join(random.Random(1).choices("日本語ab", k=50_000))
    hf = TOKENIZERS[name]
    assert Tokenizer(hf).encode(text).tolist() == hf.encode(text).ids


def test_a_text_without_any_boundary_is_not_cut_within_an_added_token(small_cuts, hf, monkeypatch):
    monkeypatch.setattr("neo_keras.text.tokenizer.MAX_WORD_CHARS", 8)
    token_id = hf.token_to_id("<|endoftext|>")
    ids = Tokenizer(hf).encode("x<|endoftext|>" * 999)
    assert np.count_nonzero(ids == token_id) == 999


@seeded
@given(seed=st.integers(0, 2**32), num_tokens=st.integers(1, 200))
def test_the_end_of_a_text_has_its_last_tokens(small_cuts, hf, seed, num_tokens):
    tokenizer, text = Tokenizer(hf), strewn_text(seed, 1000)
    tail = tokenizer.tail(text, num_tokens)
    assert text.endswith(tail)
    assert hf.encode(tail).ids[-num_tokens:] == hf.encode(text).ids[-num_tokens:]


def test_the_end_of_a_text_is_short():
    tokenizer = Tokenizer(TOKENIZERS["bpe"])
    assert len(tokenizer.tail("the cat sat. " * 100_000, 128)) < 3000
    assert tokenizer.tail("the cat", 128) == "the cat"


def test_what_comes_after_a_shard_decides_about_its_last_token(small_cuts):
    """The tokens of a shard in a file are those of a text that goes on in the same way."""
    hf = TOKENIZERS["byte"]
    for end in "]-":
        parts = ["z" * 70, "x" * 80 + f"[END OF TEXT{end}" + "y" * 80]
        encoded = encode_text(Tokenizer(hf), text_of(parts))
        assert encoded.token_ids[:].tolist() == hf.encode("".join(parts)).ids


def with_token(kind: str, content: str, **flags) -> tokenizers.Tokenizer:
    hf = MAKE[kind]()
    hf.add_tokens([AddedToken(content, **flags)])
    return hf


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
@pytest.mark.parametrize("special", [True, False])
def test_of_tokens_that_change_what_is_around_them_a_text_is_not_cut(small_cuts, flag, special):
    hf = with_token("bpe", "<mask>", **{flag: True, "special": special})
    tokenizer, text = Tokenizer(hf), "the <mask> x<mask>y <mask>  <mask>\n" * 99
    assert tokenizer.kind == "imported"
    assert tokenizer.encode(text).tolist() == hf.encode(text).ids


@pytest.mark.parametrize("content", ["é", "Ġthe", "Ċ"])
def test_tokens_that_decode_to_other_bytes_are_refused(content):
    with pytest.raises(InputError, match=f"expected .* decode to themselves, got '{content}'"):
        Tokenizer(with_token("bpe", content))
    tokenizer = Tokenizer(with_token("word", content))  # here a letter is a letter
    assert tokenizer.decode(tokenizer.encode(content)) == content


def test_an_added_token_is_known():
    tokenizer = Tokenizer(with_token("char", "<|§|>"))
    assert tokenizer.unknown_in("été<|§|>") == []
    assert tokenizer.unknown_in("§ <|§|>") == ["§"]
    assert tokenizer.decode(tokenizer.encode("été<|§|>")) == "été<|§|>"
