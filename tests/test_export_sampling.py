"""The signatures `sample` and `generate`, in the real runtime, against the host's sampler."""

import itertools

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from sure_texts import sure_ids

from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import Sampler

pytest_plugins = ["export_fixtures"]

SAMPLERS = [
    Sampler(0),
    Sampler(4.0),
    Sampler(6.0, top_k=3),
    Sampler(5.0, top_p=0.6),
    Sampler(5.0, top_k=5, top_p=0.8),
]  # hot, for the model is sure of itself
PROMPT = [3, 1, 4, 1, 5]
CONTEXT = 97


def one(value, dtype="int32"):
    return np.array([value], dtype)


def sampling_inputs(sampler, seed):
    return {
        "temperature": one(sampler.temperature, "float32"),
        "top_k": one(sampler.top_k or 0),
        "top_p": one(sampler.top_p or 1, "float32"),
        "seed": np.array([seed], "uint32").view("int32"),
    }


@pytest.fixture(scope="module")
def float32_tflite(tiny_run, exports):
    return tiny_run.export / "model-float32.tflite"


@pytest.fixture(scope="module")
def runners(float32_tflite):
    interpreter = Interpreter(str(float32_tflite))
    interpreter.allocate_tensors()
    names = interpreter.get_signature_list()
    return {name: interpreter.get_signature_runner(name) for name in names}


@pytest.fixture(scope="module")
def host_draws(float32_tflite):
    """What Python draws: by (sampler's number, seed), up to a near tie."""
    engine, tokenizer = load_engine(float32_tflite)
    draws = {}
    for (i, sampler), seed in itertools.product(enumerate(SAMPLERS), (0, 1, 2**32 - 1)):
        count, suppress_tokens = CONTEXT - len(PROMPT), [tokenizer.unk_token_id]
        draws[i, seed] = sure_ids(engine, PROMPT, count, sampler, seed, suppress_tokens)
    return draws


def run_sample(runners, sampler, seed, count):
    runners["reset"]()
    for position, token in enumerate(PROMPT[:-1]):
        runners["decode"](tokens=one([token]), input_pos=one(position))
    token, drawn = PROMPT[-1], []
    for step in range(count):
        outputs = runners["sample"](
            tokens=one([token]),
            input_pos=one(len(PROMPT) - 1 + step),
            step=one(step),
            **sampling_inputs(sampler, seed),
        )
        token = int(outputs["next_token"][0])
        drawn.append(token)
    return drawn


def run_generate(runners, sampler, seed, max_new_tokens, stop_token=-1, prompt=PROMPT):
    tokens = np.full((1, CONTEXT), 11, "int32")  # what stands after the prompt does not matter
    tokens[0, : len(prompt)] = prompt
    outputs = runners["generate"](
        tokens=tokens,
        prompt_len=one(len(prompt)),
        max_new_tokens=one(max_new_tokens),
        stop_token=one(stop_token),
        **sampling_inputs(sampler, seed),
    )
    return outputs["token_ids"][0, : outputs["count"][0]].tolist()


def test_sample_draws_what_python_draws(runners, host_draws):
    for (i, seed), expected in host_draws.items():
        assert run_sample(runners, SAMPLERS[i], seed, len(expected)) == expected
    assert sum(map(len, host_draws.values())) > 700
    assert len(set(map(tuple, host_draws.values()))) == 1 + 4 * 3  # all alike only when greedy


def test_generate_draws_what_python_draws(runners, host_draws):
    for (i, seed), expected in host_draws.items():
        drawn = run_generate(runners, SAMPLERS[i], seed, 1000)  # more than there is room
        assert len(drawn) == CONTEXT and drawn[: len(PROMPT + expected)] == PROMPT + expected


@pytest.mark.parametrize("max_new_tokens", [0, 1, 7])
def test_generate_writes_as_much_as_asked(runners, max_new_tokens):
    expected = run_generate(runners, SAMPLERS[1], 1, 50)[: len(PROMPT) + max_new_tokens]
    assert run_generate(runners, SAMPLERS[1], 1, max_new_tokens) == expected


def test_generate_ends_after_the_stop_token(runners):
    drawn = run_generate(runners, SAMPLERS[1], 1, 50)[len(PROMPT) :]
    stop = drawn[20]
    expected = PROMPT + drawn[: drawn.index(stop) + 1]
    assert run_generate(runners, SAMPLERS[1], 1, 50, stop_token=stop) == expected
    # In the prompt it does not count.
    with_stop = run_generate(runners, SAMPLERS[1], 1, 5, stop_token=stop, prompt=[stop, 3, stop])
    assert len(with_stop) > 3


def test_generate_leaves_no_trace(runners):
    """A text does not depend on the one before: old slots of the cache are never seen."""
    expected = run_generate(runners, SAMPLERS[2], 1, 92)
    run_generate(runners, SAMPLERS[3], 5, 90)
    assert run_generate(runners, SAMPLERS[2], 1, 92) == expected


def test_the_unknown_token_is_never_drawn(runners):
    drawn = run_generate(runners, Sampler(1e4), 3, 92, prompt=[0])
    assert 12 not in drawn and len(set(drawn)) > 8
