"""The decode loop, driven with an engine whose every call is written down."""

import itertools

import numpy as np
import pytest
import tokenizers
from scripted_engine import VOCAB_SIZE, ScriptedEngine, one_hot
from tokenizers import decoders, models, pre_tokenizers

from neo_keras.errors import FailedError
from neo_keras.generation.decoding import generate_ids, generate_text, stop_at
from neo_keras.generation.sampler import GREEDY, Sampler
from neo_keras.text.tokenizer import Tokenizer


def take(count, engine, prompt_ids, suppress_tokens=()):
    ids = generate_ids(engine, prompt_ids, GREEDY, 0, suppress_tokens)
    return [next(ids) for _ in range(count)]


def test_the_last_prompt_token_is_decoded_and_the_others_prefilled():
    engine = ScriptedEngine()
    assert take(3, engine, [2, 3, 4, 5]) == [6, 7, 8]
    assert engine.calls == [
        ("reset",),
        ("prefill", 0, [2, 3, 4]),
        ("decode", 3, 5),
        ("decode", 4, 6),
        ("decode", 5, 7),
    ]


def test_of_a_long_prompt_the_end_counts():
    engine = ScriptedEngine()
    prompt = [9, 9, 9, 1, 2, 3, 4, 5, 6, 7]
    assert take(1, engine, prompt) == [8]
    assert engine.held == [1, 2, 3, 4, 5, 6, 7]
    assert engine.count("reset") == 1


def test_a_prompt_as_long_as_the_window():
    engine = ScriptedEngine()
    assert take(1, engine, range(7)) == [7]
    assert engine.held == list(range(7))


def test_past_the_window_it_goes_on_with_the_later_half():
    seen = []

    def logits_after(held):
        seen.append(held)
        return one_hot((held[-1] + 1) % VOCAB_SIZE)

    engine = ScriptedEngine(logits_after=logits_after)
    prompt = [0, 1, 2, 3, 4]
    assert take(9, engine, prompt) == [5, 6, 7, 8, 9, 10, 11, 12, 0]
    assert seen == [
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2, 3, 4, 5, 6],  # full: seven tokens, and 7 is drawn
        [5, 6, 7],  # half of seven, the new token among them
        [5, 6, 7, 8],
        [5, 6, 7, 8, 9],
        [5, 6, 7, 8, 9, 10],
        [5, 6, 7, 8, 9, 10, 11],
        [10, 11, 12],
    ]
    assert [call for call in engine.calls if call[0] != "decode"] == [
        ("reset",),
        ("prefill", 0, [0, 1, 2]),
        ("prefill", 3, [3, 0, 0]),
        ("reset",),
        ("prefill", 0, [5, 6, 0]),
        ("reset",),
        ("prefill", 0, [10, 11, 0]),
    ]


@pytest.mark.parametrize("max_seq_len", [1, 2, 3])
def test_the_smallest_windows(max_seq_len):
    engine = ScriptedEngine(max_seq_len, chunk_size=1)
    assert take(5, engine, [1, 2, 3, 4]) == [5, 6, 7, 8, 9]


def test_a_banned_token_is_never_drawn():
    logits = np.arange(VOCAB_SIZE, dtype="float32")
    logits[12] = 1e6  # not a matter of degree
    engine = ScriptedEngine(logits_after=lambda held: logits)
    assert take(2, engine, [0]) == [12, 12]
    assert take(2, engine, [0], suppress_tokens=[12]) == [11, 11]
    assert take(2, engine, [0], suppress_tokens=[12, 11]) == [10, 10]
    assert logits[12] == 1e6  # the engine's array is left alone
    ids = generate_ids(engine, [0], Sampler(1e3), 0, [12, 5])
    assert {next(ids) for _ in range(500)} == set(range(12)) - {5}


def test_the_penalty_is_for_what_the_window_holds():
    logits = np.array([1, 4, 3.5, -1, 3.9] + [-9] * 8, "float32")
    engine = ScriptedEngine(3, 1, logits_after=lambda held: logits)
    ids = generate_ids(engine, [4], Sampler(0, repetition_penalty=2.0), 0)
    # 4 halves what it has and leaves 1, then 2; with all three in the window, 1 has 2.0, the most.
    # The window is full then: one of its tokens stays, beside the new one's.
    assert [next(ids) for _ in range(5)] == [1, 2, 1, 4, 2]


def test_the_penalty_of_a_pair_is_for_the_target_only():
    logits = np.array([1, 4, 3.5, -1, 3.9] + [-9] * 8, "float32")
    engine = ScriptedEngine(logits_after=lambda held: logits)
    engine.end_token_id, engine.context_shift_keep = 0, 0
    ids = generate_ids(engine, [1, 2, 0], Sampler(0, repetition_penalty=5.0), 0)
    assert list(ids) == [1, 4, 2]  # and then the end, which no penalty keeps away


LETTERS = Tokenizer.characters_of("\nabcdefghijk")  # ids 0 .. 11; <unk> is 12
NEXT_LETTER = dict(zip("\nabcdefghijk", "abcdefghijk\n"))


def write(engine, prompt="a", max_tokens=5, sampler=GREEDY, tokenizer=LETTERS, **options):
    return list(generate_text(engine, tokenizer, prompt, max_tokens, sampler, **options))


def test_text():
    engine = ScriptedEngine()
    assert write(engine, "bcd", 4) == ["e", "f", "g", "h"]


def test_text_never_holds_the_unknown_token():
    assert write(ScriptedEngine(logits_after=lambda held: one_hot(12)), max_tokens=3) == ["\n"] * 3
    wild = write(ScriptedEngine(logits_after=lambda held: one_hot(12)), "a", 300, Sampler())
    assert set(wild) == set("\nabcdefghijk")


@pytest.mark.parametrize(("max_tokens", "decodes"), [(0, 0), (1, 1), (2, 2), (5, 5)])
def test_max_tokens_and_not_a_decode_more(max_tokens, decodes):
    engine = ScriptedEngine()
    assert write(engine, "a", max_tokens) == list("bcdef")[:max_tokens]
    assert engine.count("decode") == decodes


def test_no_refill_after_the_last_token():
    engine = ScriptedEngine()
    assert write(engine, "abcde", 3) == list("fgh")  # the seven slots are full, and h is drawn
    assert engine.count("reset") == 1


def test_an_empty_prompt_begins_after_a_line_break():
    engine = ScriptedEngine()
    assert write(engine, "", 2) == ["a", "b"]
    assert engine.held == [0, 1]


@pytest.mark.filterwarnings("error")
def test_an_empty_prompt_for_a_tokenizer_without_a_newline_begins_with_the_first_token():
    chunks = write(ScriptedEngine(), "", 4, tokenizer=Tokenizer.characters_of("abcdefghijkl"))
    assert chunks == ["b", "c", "d", "e"]


def test_a_diverged_model_is_told_of():
    engine = ScriptedEngine(logits_after=lambda held: np.full(VOCAB_SIZE, np.nan, "float32"))
    with pytest.raises(FailedError, match="diverged"):
        write(engine, "a", 1)


def seeded(seed, max_tokens=40):
    engine = ScriptedEngine(logits_after=lambda held: np.zeros(VOCAB_SIZE, "float32"))
    return "".join(write(engine, "a", max_tokens, Sampler(), seed=seed))


def test_same_seed_same_text():
    assert seeded(3) == seeded(3)
    assert len({seeded(3), seeded(4), seeded(2**31), seeded(2**32 - 1)}) == 4
    assert seeded(3, 17) == seeded(3)[:17]


def test_a_stop_string_ends_generation_at_once():
    engine = ScriptedEngine()
    assert write(engine, "a", 100, stop_strings=["e"]) == ["b", "c", "d"]
    assert engine.count("decode") == 4  # b c d e


def test_the_prompt_is_not_searched_for_the_stop_string():
    assert "".join(write(ScriptedEngine(), "abc", 3, stop_strings=["cd"])) == "def"


def test_the_end_token_ends_a_text():
    engine = ScriptedEngine(
        logits_after=lambda held: one_hot(held[-1] + 1 if held[-1] < 3 else 13, 14)
    )
    assert write(engine, "a", 100, tokenizer=LETTERS.with_end_token()) == ["b", "c"]


def test_chunks_are_never_empty():
    assert write(ScriptedEngine(), "a", 4, stop_strings=["de"]) == ["b", "c"]
    assert write(ScriptedEngine(), "a", 4, stop_strings=["b"]) == []
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("é€")  # of two and three bytes
    script = dict(zip([0, *ids.tolist()], ids.tolist()))
    engine = ScriptedEngine(64, 1, lambda held: one_hot(script[held[-1]], 256))
    assert write(engine, tokenizer.decode([0]), 5, tokenizer=tokenizer) == ["é", "€"]


def byte_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    hf = tokenizers.Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    return Tokenizer(hf)


@pytest.mark.parametrize(
    ("stop", "chunks", "expected"),
    [
        ("END", ["ab", "cEN", "Dxy"], "abc"),
        ("END", ["a", "E", "N", "D", "b"], "a"),
        ("END", ["aENDbENDc"], "a"),
        ("END", ["END", "a"], ""),
        ("END", ["E", "ND"], ""),
        ("END", ["aEN"], "aEN"),
        ("END", ["aE", "EN", "EEND"], "aEENE"),
        ("aab", ["a", "a", "a", "b", "c"], "a"),
        ("aab", ["aaab"], "a"),
        ("abab", ["ab", "a", "cab", "abx"], "abac"),
        ("\n\n", ["a\n", "b", "\n", "\nc"], "a\nb"),
        ("x", ["", "a", "", "b"], "ab"),
        ("x", [], ""),
    ],
)
def test_stop_at(stop, chunks, expected):
    assert "".join(stop_at([stop], chunks)) == expected


def test_stop_at_holds_back_only_what_may_be_the_stop_string():
    chunks = stop_at(["aab"], iter(["xa", "a", "a", "c", "d"]))
    assert list(chunks) == ["x", "", "a", "aac", "d", ""]


@pytest.mark.parametrize(
    ("stop_strings", "text", "expected"),
    [
        (["END", "STOP"], "a STOP END", "a "),
        (["END", "STOP"], "an END STOP", "an "),
        (["abcd", "bc"], "xabcd", "xa"),  # the one that is complete first
        (["cd", "abcd"], "xabcd", "x"),  # of two at once, the longer one
        (["ab", "aab"], "aaab", "a"),
        (["\n\n", "\nB"], "a\nb\nB", "a\nb"),
        (["END", "EN"], "EEN", "E"),
        (["END", "NO"], "ENNEN", "ENNEN"),
    ],
)
def test_stop_at_one_of_several_however_the_text_is_cut(stop_strings, text, expected):
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        chunks = [text[0]]
        for character, cut in zip(text[1:], cuts):
            if cut:
                chunks.append(character)
            else:
                chunks[-1] += character
        assert "".join(stop_at(stop_strings, chunks)) == expected


def test_stop_at_one_of_several_holds_back_the_longest_beginning():
    chunks = stop_at(["abc", "bd"], iter(["xa", "b", "e", "b", "a"]))
    assert list(chunks) == ["x", "", "abe", "", "b", "a"]


def test_stop_at_reads_no_further_than_the_stop_string():
    chunks = iter(["a", "END", "never"])
    assert "".join(stop_at(["END"], chunks)) == "a"
    assert list(chunks) == ["never"]
