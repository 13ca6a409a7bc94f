"""What an engine does with tokens that it read before they were sampled."""

import itertools

import numpy as np
import pytest
from scripted_engine import VOCAB_SIZE, ScriptedEngine, ScriptedRunner

from neo_keras.generation.decoding import generate_ids
from neo_keras.generation.engine import TRIAL_STEPS
from neo_keras.generation.sampler import GREEDY, STEPS_AT_A_TIME, Sampler

NUM_DRAFTS = 3


class DraftingRunner(ScriptedRunner):
    """Drafts by the rule of a scripted engine; where `is_right(token)` is false, wrongly."""

    functions = ("decode", "prefill", "verify")
    is_right = None

    def run_verify(self, tokens, position, noise):
        assert tokens.shape == (1, 1 + NUM_DRAFTS)
        assert noise.shape == (1 + 2 * NUM_DRAFTS, VOCAB_SIZE)
        self.calls.append(("verify", position, tokens[0].tolist()))
        sampled = (tokens[0] + 1) % VOCAB_SIZE
        drafts = (sampled[:, None] + np.arange(1, 1 + NUM_DRAFTS)) % VOCAB_SIZE
        is_right = np.vectorize(self.is_right)(drafts)
        drafts = np.where(is_right, drafts, (drafts + 5) % VOCAB_SIZE)
        return {"logits": np.eye(VOCAB_SIZE)[sampled], "drafts": drafts}


class DraftingEngine(ScriptedEngine):
    runner_class = DraftingRunner

    def __init__(self, is_right=lambda token_id: True, **settings):
        super().__init__(**settings, num_drafts=NUM_DRAFTS)
        self._runner.is_right = is_right


def take(count, engine, prompt_ids):
    return list(itertools.islice(generate_ids(engine, prompt_ids, GREEDY, 0), count))


def test_a_step_gives_all_that_is_accepted():
    engine = DraftingEngine(max_seq_len=29)
    assert take(9, engine, [5]) == [6, 7, 8, 9, 10, 11, 12, 0, 1]
    # The first step has nothing to go on from, and reads anything.
    assert engine.calls[1:] == [
        ("verify", 0, [5, 0, 0, 0]),
        ("verify", 1, [6, 7, 8, 9]),
        ("verify", 5, [10, 11, 12, 0]),
    ]
    assert engine.num_accepted == 6
    assert engine.held == [5, 6, 7, 8, 9, 10, 11, 12, 0]


def test_a_wrong_draft_costs_what_comes_after_it():
    engine = DraftingEngine(lambda token_id: token_id != 8, max_seq_len=29)
    assert take(7, engine, [5]) == [6, 7, 8, 9, 10, 11, 12]
    assert engine.calls[1:] == [
        ("verify", 0, [5, 0, 0, 0]),
        ("verify", 1, [6, 7, 0, 9]),
        ("verify", 3, [8, 9, 10, 11]),
    ]


def test_a_guess_may_be_right_by_chance():
    engine = DraftingEngine(max_seq_len=29)
    assert take(2, engine, [12]) == [0, 1]
    assert engine.calls[1:] == [("verify", 0, [12, 0, 0, 0])]


@pytest.mark.parametrize("max_seq_len", [2, 3, 4, 5, 7, 11])
@pytest.mark.parametrize("prompt_length", [1, 4, 12])
def test_at_the_end_of_the_context(max_seq_len, prompt_length):
    for is_right in (lambda token_id: True, lambda token_id: token_id % 3):
        engine = DraftingEngine(is_right, max_seq_len=max_seq_len, chunk_size=2)
        first = prompt_length % VOCAB_SIZE
        expected = [(first + i) % VOCAB_SIZE for i in range(40)]
        assert take(40, engine, range(prompt_length)) == expected


def test_where_nothing_is_accepted_it_stops_drafting():
    engine = DraftingEngine(lambda token_id: False, max_seq_len=101)
    take(90, engine, [5])
    assert engine.count("verify") == TRIAL_STEPS
    assert engine.count("decode") == 90 - TRIAL_STEPS
    engine.calls.clear()
    take(1, engine, [5])  # another text may be another matter
    assert engine.count("verify") == 1


def test_without_noise_it_reads_one_by_one():
    engine = DraftingEngine()
    assert np.argmax([engine.decode(4), engine.decode(5)], axis=1).tolist() == [5, 6]
    assert engine.count("verify") == 0


def test_another_text_forgets_what_was_read():
    engine = DraftingEngine(max_seq_len=29)
    take(2, engine, [5])  # and has read 7, 8 and 9
    position = engine.position
    engine.prefill([3])
    engine.decode(7, lambda num_steps, vocab_size: np.zeros((num_steps, vocab_size)))
    assert engine.calls[-1] == ("verify", position + 1, [7, 0, 0, 0])


@pytest.mark.parametrize("step", [0, 5, STEPS_AT_A_TIME - 3, STEPS_AT_A_TIME - 1, 130])
@pytest.mark.parametrize("temperature", [0, 0.7])
def test_noise_samples_what_sample_samples(step, temperature):
    sampler = Sampler(temperature)
    logits = np.random.default_rng(step).standard_normal((9, 17)).astype("float32")
    noise = sampler.noise(3, step, 9, 17)
    sampled = [sampler.sample(row, 3, step + i) for i, row in enumerate(logits)]
    assert (logits + noise).argmax(axis=1).tolist() == sampled
