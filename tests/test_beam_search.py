"""A search with beams, against all texts that there are."""

import itertools

import numpy as np
import pytest
from scripted_engine import ScriptedEngine

from neo_keras.errors import InputError
from neo_keras.generation.decoding import beam_search, generate_ids
from neo_keras.generation.sampler import GREEDY, Sampler

VOCAB_SIZE, NUM_TOKENS = 5, 4
TABLE = np.random.default_rng(2).normal(0, 1, (VOCAB_SIZE, VOCAB_SIZE, VOCAB_SIZE))


class SearchableEngine(ScriptedEngine):
    """What comes next depends on the last two tokens."""

    def __init__(self, max_seq_len=11, end_token_id=None):
        super().__init__(max_seq_len, 1, lambda held: logits_after(held))
        self.end_token_id = end_token_id
        self.context_shift_keep = max_seq_len // 2 if end_token_id is None else 0

    @property
    def state(self):
        return [*self._held], self._runner.slots.copy()

    @state.setter
    def state(self, state):
        self._held, self._runner.slots = [*state[0]], state[1].copy()


def logits_after(held):
    return TABLE[held[-2] if len(held) > 1 else 0, held[-1]].astype("float32")


def log_probability(prompt, token_ids):
    text, total = list(prompt), 0.0
    for token_id in token_ids:
        logits = np.float64(logits_after(text))
        total += logits[token_id] - np.log(np.exp(logits).sum())
        text.append(token_id)
    return total


def test_one_beam_is_greedy():
    greedy = list(itertools.islice(generate_ids(SearchableEngine(), [1, 2], GREEDY, 0), 20))
    assert beam_search(SearchableEngine(), [1, 2], 1, 20) == greedy  # past the context, too


def test_enough_beams_find_the_likeliest_text():
    texts = itertools.product(range(VOCAB_SIZE), repeat=NUM_TOKENS)
    best = max(texts, key=lambda token_ids: log_probability([1, 2], token_ids))
    found = beam_search(SearchableEngine(), [1, 2], VOCAB_SIZE**NUM_TOKENS, NUM_TOKENS)
    assert found == list(best)
    greedy = list(itertools.islice(generate_ids(SearchableEngine(), [1, 2], GREEDY, 0), 4))
    assert found != greedy  # else it would show nothing
    assert log_probability([1, 2], found) > log_probability([1, 2], greedy)


def test_texts_that_end_count_by_the_token():
    end = 3
    others = [t for t in range(VOCAB_SIZE) if t != end]
    ended = [
        (*token_ids, end)
        for length in range(NUM_TOKENS)
        for token_ids in itertools.product(others, repeat=length)
    ]
    whole = ended + list(itertools.product(others, repeat=NUM_TOKENS))
    best = max(whole, key=lambda token_ids: log_probability([1, 2], token_ids) / len(token_ids))
    engine = SearchableEngine(end_token_id=end)
    found = beam_search(engine, [1, 2], VOCAB_SIZE**NUM_TOKENS, NUM_TOKENS)
    assert found == [token_id for token_id in best if token_id != end]


def test_banned_tokens_are_not_found():
    assert 4 not in beam_search(SearchableEngine(), [4, 4], 7, 9, suppress_tokens=[4])


def test_the_penalty_on_repetition():
    penalty = Sampler(repetition_penalty=3.0)
    greedy = Sampler(0, repetition_penalty=3.0)
    one = beam_search(SearchableEngine(), [1, 2], 1, 9, sampler=penalty)
    assert one == list(itertools.islice(generate_ids(SearchableEngine(), [1, 2], greedy, 0), 9))

    def score(token_ids):
        text, total = [1, 2], 0.0
        for token_id in token_ids:
            logits = np.float64(logits_after(text))
            for seen in set(text):
                logits[seen] *= 1 / 3 if logits[seen] > 0 else 3
            total += logits[token_id] - np.log(np.exp(logits).sum())
            text.append(token_id)
        return total

    best = max(itertools.product(range(VOCAB_SIZE), repeat=NUM_TOKENS), key=score)
    num_beams = VOCAB_SIZE**NUM_TOKENS
    found = beam_search(SearchableEngine(), [1, 2], num_beams, NUM_TOKENS, sampler=penalty)
    assert found == list(best)
    assert found != beam_search(SearchableEngine(), [1, 2], num_beams, NUM_TOKENS)


def test_an_engine_that_cannot():
    with pytest.raises(InputError, match="beam search needs a run directory or a SavedModel"):
        beam_search(ScriptedEngine(), [1], 2, 3)
