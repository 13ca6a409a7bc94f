"""The four kinds of tokenizers: what goes in comes out, and plain `tokenizers` agrees."""

import random
import re

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import MAKE, SAMPLE

from neo_keras.text import tokenizer_models
from neo_keras.text.chunks import MAX_CHUNK_CHARS, MIN_CHUNK_CHARS, Chunker
from neo_keras.text.corpus import load_corpus
from neo_keras.text.tokenizer import Tokenizer

seeded = settings(max_examples=50, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module", params=tokenizer_models.KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(kind):
    return Tokenizer(MAKE[kind]())


BYTE_LEVEL = {kind: Tokenizer(MAKE[kind]()) for kind in ("bpe", "byte")}


def test_recognizes_its_own(kind, tokenizer):
    assert tokenizer.kind == kind
    assert Tokenizer.from_json(tokenizer.to_json()).kind == kind


def test_words_by_hand():
    # 9 blanks; 3 "a" and 3 "é,"; then, seen twice, "b_2" and a line break; "c" and "." but once
    text = "é, a é, a\né, a b_2 b_2\n c."
    tokenizer = Tokenizer(tokenizer_models.train_word_level([text], 7))
    assert tokenizer.vocab_size == 7
    assert [tokenizer.decode([i]) for i in range(7)] == [" ", ",", "a", "é", "\n", "b_2", "<unk>"]
    assert tokenizer.unk_token_id == 6
    assert tokenizer.encode("é a-b_2 c\n\n").tolist() == [3, 0, 2, 6, 5, 0, 6, 4, 4]
    assert tokenizer.unknown_in("é a-b_2 c\n\n") == ["-", "c"]
    assert Tokenizer(tokenizer_models.train_word_level([text], 3)).encode("a ,").tolist() == [
        2,
        0,
        1,
    ]


def test_bytes_by_hand():
    tokenizer = Tokenizer(tokenizer_models.single_bytes())
    assert (tokenizer.vocab_size, tokenizer.unk_token_id, tokenizer.start_token_id) == (
        256,
        None,
        10,
    )
    assert tokenizer.encode("a é\0").tolist() == [97, 32, 0xC3, 0xA9, 0]
    assert [tokenizer.token_bytes(i) for i in range(256)] == [bytes([i]) for i in range(256)]


def test_bpe_by_hand():
    # "ab" stands there six times, "abab" thrice, " abab" twice; then no pair is seen twice.
    tokenizer = Tokenizer(tokenizer_models.train_bpe(["abab abab abab"], 1000))
    assert tokenizer.vocab_size == 259
    assert [tokenizer.token_bytes(i) for i in (256, 257, 258)] == [b"ab", b"abab", b" abab"]
    assert tokenizer.encode("ab abab").tolist() == [256, 258]
    assert Tokenizer(tokenizer_models.train_bpe(["abab abab abab"], 257)).vocab_size == 257


@pytest.mark.parametrize("kind", BYTE_LEVEL)
@seeded
@given(text=st.text())
def test_byte_level_round_trip_of_any_text(kind, text):
    tokenizer = BYTE_LEVEL[kind]
    token_ids = tokenizer.encode(text)
    assert tokenizer.decode(token_ids) == "".join(tokenizer.stream(token_ids)) == text
    assert len(token_ids) <= len(text.encode())
    assert tokenizer.unknown_in(text) == []


@seeded
@given(text=st.text(alphabet=SAMPLE))
def test_round_trip_of_known_characters(text):
    tokenizer = Tokenizer(MAKE["char"]())
    assert tokenizer.decode(tokenizer.encode(text)) == text


@seeded
@given(
    words=st.lists(
        st.sampled_from([*"l'，。 \t\n?_\r\0", "the", "été", "日本語", "x_1", "e\u0301a\u0301"])
    )
)
def test_round_trip_of_known_words(words):
    text = " ".join(words)
    tokenizer = Tokenizer(tokenizer_models.train_word_level([text, text], 1000))
    token_ids = tokenizer.encode(text)
    assert tokenizer.decode(token_ids) == "".join(tokenizer.stream(token_ids)) == text


@pytest.mark.parametrize("kind", tokenizer_models.KINDS)
def test_round_trip_of_the_plays(kind):
    text = load_corpus()[:200_000]
    make = {
        **MAKE,
        "char": lambda: tokenizer_models.from_tokens(tokenizer_models.CHARACTER, sorted(set(text))),
    }
    # Twice, so that no word is too rare.
    make["word"] = lambda: tokenizer_models.train_word_level(Chunker().chunks([text, text]), 2**20)
    tokenizer = Tokenizer(make[kind]())
    assert tokenizer.decode(tokenizer.encode(text)) == text


def long_texts():
    words = [*"\n…。😀½\x85\u3000", "the", " the", "  ", "\n\n\n", ". ", "日本語", "e\u0301", "'ll"]
    words += ["x_1", "<unk>", "a" * 300, "-" * 300]
    rng = random.Random(3)
    yield "".join(rng.choices(words, k=1000))
    yield "".join(rng.choices(["a" * 300, "日本語", "。"], k=1000))  # no space at all
    yield SAMPLE


def test_plain_tokenizers_give_the_same_ids(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in long_texts():
        assert plain.encode(text).ids == tokenizer.encode(text).tolist()
        parts = [text[i : i + 997] for i in range(0, len(text), 997)]
        ids = [i for _, token_ids in tokenizer.encode_parts(parts) for i in token_ids]
        assert plain.encode(text).ids == ids
        assert plain.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)


def test_bytes_in_an_order_of_their_own():
    letters = [*tokenizer_models.BYTE_DECODER]
    random.Random(4).shuffle(letters)
    plain = tokenizer_models.single_bytes()
    plain.model = tokenizers.models.BPE({letter: i for i, letter in enumerate(letters)}, [])
    tokenizer = Tokenizer(plain)
    assert tokenizer.kind == "byte"
    for text in long_texts():
        assert plain.encode(text).ids == tokenizer.encode(text).tolist()
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_an_end_token_in_a_text(tokenizer):
    tokenizer = tokenizer.with_end_token()
    token_ids = tokenizer.encode("\n<|endoftext|>\n")
    assert token_ids.tolist() == [token_ids[0], tokenizer.end_token_id, token_ids[0]]


def test_pieces():
    for text in long_texts():
        for size in (1, 997, len(text)):
            parts = (text[i : i + size] for i in range(0, len(text), size))
            pieces = list(Chunker().chunks(parts))
            assert "".join(pieces) == text
            assert max(map(len, pieces)) <= MAX_CHUNK_CHARS
            for before, after in zip(pieces, pieces[1:]):
                assert len(before) >= MIN_CHUNK_CHARS
                assert re.search(r"\S$", before) and re.search(r"^[ \n]|^[.。]", after)


def test_a_text_without_any_space_is_cut_too(tokenizer):
    text = "日" * 50_000
    sizes = [len(piece) for piece in Chunker().chunks([text])]
    assert sizes == [16384, 16384, 16384, 848]
    if tokenizer.unk_token_id is None:
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", BYTE_LEVEL)
@seeded
@given(data=st.binary())
def test_any_bytes_stream_as_they_decode(kind, data):
    """A model may write bytes in any order: nothing crashes, and no text is lost."""
    by_byte = {BYTE_LEVEL[kind].token_bytes(i): i for i in range(256)}
    token_ids = [by_byte[bytes([byte])] for byte in data]
    text = "".join(BYTE_LEVEL[kind].stream(token_ids))
    assert text == BYTE_LEVEL[kind].decode(token_ids) == data.decode("utf-8", "replace")


@pytest.mark.parametrize("kind", BYTE_LEVEL)
def test_nothing_half_decoded_is_shown(kind):
    tokenizer = BYTE_LEVEL[kind]
    token_ids = tokenizer.encode("aß€😎b")
    assert list(tokenizer.stream(token_ids)) == ["a", "ß", "€", "😎", "b"]

    shown, taken = [], []

    def take():
        for token_id in token_ids:
            taken.append((token_id, "".join(shown)))
            yield token_id

    for piece in tokenizer.stream(take()):
        shown.append(piece)
    # Before each token all whole characters are there, and none is half there.
    assert [text for _, text in taken[:4]] == ["", "a", "a", "aß"]


def test_a_text_may_end_within_a_character():
    tokenizer = BYTE_LEVEL["byte"]
    for text, shown in (("😎", ["\ufffd"]), ("a😎", ["a", "\ufffd"])):
        for missing in (1, 2, 3):
            token_ids = tokenizer.encode(text)[:-missing]
            assert list(tokenizer.stream(token_ids)) == shown
    # What is broken off by another character is not lost, nor is that one.
    assert list(tokenizer.stream([0xE2, 0x82, 0x61, 0xFF, 0x62])) == ["\ufffda", "\ufffd", "b"]
