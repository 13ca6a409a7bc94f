"""`GPT.generate`: KerasHub's samplers, against the decode loop and against texts made alone."""

import importlib.util
import itertools
import os
import subprocess
import sys
import textwrap

import keras_hub
import numpy as np
import pytest
from conftest import randomize
from tiny_models import ROOT

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.generation.decoding import beam_search, generate_ids
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.model.encoder_decoder import EncoderDecoder
from neo_keras.model.generate import MAX_COMPILED

samplers = keras_hub.samplers
BEAM, CONTRASTIVE = samplers.BeamSampler(num_beams=3), samplers.ContrastiveSampler(k=3, alpha=0.6)
VOCAB_SIZE, MAX_LENGTH = 13, 17
# The shortest has a token, the longest more than the prefix that is taken in at once.
PROMPTS = [[4, 2, 7], [11], [5, 6, 7, 8, 9, 10, 11, 1, 3]]
SHAPE = dict(
    vocab_size=VOCAB_SIZE, max_seq_len=MAX_LENGTH, num_layers=1, num_heads=5, num_kv_heads=5,
    hidden_dim=70, max_ngram=4, ngram_rows=211, ngram_dim=14,
)  # fmt: skip


@pytest.fixture(scope="module")
def model():
    from neo_keras.model.gpt import GPT

    model = GPT(ModelConfig(**SHAPE))
    randomize(model, 7)
    return model


@pytest.fixture(scope="module")
def pair_model():
    """Token 12 ends a source and a target."""
    config = ModelConfig(**SHAPE, architecture="encoder-decoder", end_token_id=12)
    model = EncoderDecoder(config)
    randomize(model, 3)
    return model


def decoded(model, prompt, count=None):
    count = MAX_LENGTH - len(prompt) if count is None else count
    ids = generate_ids(keras_engine(model), prompt, GREEDY, 0)
    return list(itertools.islice(ids, count))


def test_greedy_is_the_decode_loop(model):
    texts = model.generate(PROMPTS, sampler="greedy")
    assert texts == [prompt + decoded(model, prompt) for prompt in PROMPTS]
    assert len({tuple(text[-4:]) for text in texts}) == 3  # not all of them end alike


@pytest.mark.exhaustive  # the next test compares them with a search of one text
def test_a_batch_is_its_texts_alone(model):
    texts = model.generate(PROMPTS, sampler=BEAM)
    assert [model.generate([prompt], sampler=BEAM)[0] for prompt in PROMPTS] == texts


def test_beams_are_those_of_the_search(model):
    texts = model.generate(PROMPTS, sampler=BEAM)
    engine = keras_engine(model)
    assert texts == [
        prompt + beam_search(engine, prompt, BEAM.num_beams, MAX_LENGTH - len(prompt))
        for prompt in PROMPTS
    ]
    assert texts != model.generate(PROMPTS, sampler="greedy")  # else it would show nothing


def test_samplers_that_draw(model):
    def top_k():
        return samplers.TopKSampler(k=3, seed=2)

    for sampler in (samplers.TopPSampler(p=0.9, seed=2), top_k()):
        texts = model.generate(PROMPTS, sampler=sampler)
        assert [text[: len(prompt)] for text, prompt in zip(texts, PROMPTS)] == PROMPTS
        assert {len(text) for text in texts} == {MAX_LENGTH}
        assert set(itertools.chain(*texts)) <= set(range(VOCAB_SIZE))
        assert model.generate(PROMPTS, sampler=sampler) != texts  # it draws on
    assert model.generate(PROMPTS, sampler=top_k()) == texts  # a seed draws the same


def test_draws_follow_the_model(model):
    """Of 4,000 texts of one token more, against the softmax of `call`."""
    texts = model.generate([[4, 2, 7]] * 4000, 4, sampler=samplers.RandomSampler(seed=5))
    logits = np.float64(model(np.array([[4, 2, 7]]))[0, -1])
    expected = np.exp(logits - logits.max())
    expected *= 4000 / expected.sum()
    counts = np.bincount([text[3] for text in texts], minlength=VOCAB_SIZE)
    assert ((counts - expected) ** 2 / expected).sum() < 32.9  # once in a thousand, of 12 degrees


def test_contrastive_search_by_hand(model):
    """The same from `call` alone, without a cache (Su et al. 2022, arXiv:2202.06417)."""
    k, alpha, text = CONTRASTIVE.k, CONTRASTIVE.alpha, list(PROMPTS[0])

    def hidden_and_logits(token_ids):
        positions = np.arange(len(token_ids), dtype="int32")
        cache = model.empty_cache(1, len(token_ids))
        x, _ = model.hidden_step(np.array([token_ids], "int32"), positions, cache, positions)
        return np.float64(x[0]), np.float64(model.logits(x)[0, -1])

    while len(text) < MAX_LENGTH:
        hidden, logits = hidden_and_logits(text)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        scores = {}
        for token_id in np.argsort(-probabilities)[:k]:
            new = hidden_and_logits([*text, token_id])[0][-1]
            norms = np.linalg.norm(hidden, axis=1) * np.linalg.norm(new)
            scores[token_id] = (1 - alpha) * probabilities[token_id]
            scores[token_id] -= alpha * (hidden @ new / norms).max()
        text.append(int(max(scores, key=scores.get)))
    assert model.generate(PROMPTS, sampler=CONTRASTIVE)[0] == text
    assert model.generate(PROMPTS, sampler="greedy")[0] != text


def test_lengths(model):
    whole = model.generate(PROMPTS, sampler="greedy")
    assert model.generate(PROMPTS, 11, "greedy") == [text[:11] for text in whole]
    assert model.generate(PROMPTS, len(PROMPTS[2]), "greedy")[2] == PROMPTS[2]
    assert model.generate([np.array(PROMPTS[0])], sampler="greedy") == whole[:1]
    assert model.generate(np.array([[4, 2, 7]]), sampler="greedy") == whole[:1]


@pytest.mark.parametrize("num_stops", [1, 3])
def test_stop_tokens(model, num_stops):
    whole = model.generate(PROMPTS, sampler="greedy")
    stops = [whole[0][5], 0, PROMPTS[2][0]][:num_stops]  # the last stands in a prompt, too
    texts = model.generate(PROMPTS, sampler="greedy", stop_token_ids=stops)
    assert texts == [
        prompt + list(itertools.takewhile(lambda t: t not in stops, text[len(prompt) :]))
        for prompt, text in zip(PROMPTS, whole)
    ]
    assert len(texts[0]) <= 5


def test_a_beam_that_has_ended_counts_what_it_has(model):
    """All texts of up to three tokens, each to its end, by their log-probability."""
    prompt, stop, count = [4, 2], 8, 3
    logits = {}

    def log_probability(continuation):
        total = 0.0
        for i, token_id in enumerate(continuation):
            text = (*prompt, *continuation[:i])
            if text not in logits:
                logits[text] = np.float64(model(np.array([text]))[0, -1])
            total += logits[text][token_id] - np.log(np.exp(logits[text]).sum())
            if token_id == stop:
                break
        return total

    vocabulary = [1, 2, 5, 8, 9]  # of the likeliest: all texts of these, and all that end
    continuations = itertools.product(vocabulary, repeat=count)
    best = max(continuations, key=log_probability)
    beam = samplers.BeamSampler(num_beams=VOCAB_SIZE**2)
    [text] = model.generate([prompt], len(prompt) + count, beam, [stop])
    found = [*text[len(prompt) :], stop][:count]
    assert log_probability(found) >= log_probability(best) - 1e-4


def test_pairs(pair_model):
    sources = [[4, 2, 7, 12], [3, 12], [5, 6, 7, 8, 9, 10, 11, 1, 12]]
    targets = pair_model.generate(sources, sampler="greedy")
    assert targets == [decoded(pair_model, source, MAX_LENGTH - 1) for source in sources]


@pytest.mark.exhaustive
def test_beams_of_pairs(pair_model):
    searched = pair_model.generate([[4, 2, 7, 12], [3, 12]], 9, sampler=BEAM)
    assert all(12 not in target and len(target) <= 8 for target in searched)


def test_what_is_compiled_is_kept(model):
    compiled = model._generator.compiled
    model.generate(PROMPTS, sampler="greedy")
    function = compiled("greedy", ())
    model.generate(PROMPTS, sampler="greedy")
    assert compiled("greedy", ()) is function
    for i in range(MAX_COMPILED + 2):
        compiled("greedy", (i,))
    assert compiled.cache_info().currsize == MAX_COMPILED


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sampler": "best"}, "one of greedy, random, top_k, top_p, beam, contrastive, .*'best'"),
        ({"sampler": GREEDY}, "object of these classes of keras_hub.samplers, got Sampler"),
        ({"sampler": samplers.SpeculativeSampler()}, "sampler must be one of"),
        ({"sampler": samplers.BeamSampler(return_all_beams=True)}, "return_all_beams=False"),
        ({"prompts": []}, "at least one token id"),
        ({"prompts": [[]]}, "at least one token id"),
        ({"prompts": 3}, "at least one token id"),
        ({"prompts": [1, 2]}, "at least one token id"),
        ({"prompts": "text"}, "at least one token id"),
        ({"prompts": [[1], [2] * 18]}, "prompt 1 has 18 tokens: 17 are the most"),
        ({"prompts": [[1], [2] * 6], "max_length": 5}, "prompt 1 has 6 tokens: 5 are the most"),
        ({"prompts": [[1], [13]]}, "token ids of prompt 1 must be 0 to 12"),
        ({"prompts": [[-1]]}, "token ids of prompt 0 must be 0 to 12"),
        ({"max_length": 18}, "max_length must be 1 to 17, got 18"),
        ({"max_length": 0}, "max_length must be 1 to 17, got 0"),
    ],
)
def test_what_cannot_be(model, arguments, words):
    with pytest.raises(InputError, match=words):
        model.generate(**{"prompts": [[1]], **arguments})


JAX_PROGRAM = """
import keras
from neo_keras.config import ModelConfig
from neo_keras.model.gpt import GPT

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(1)
model = GPT(ModelConfig(vocab_size=13, max_seq_len=17, num_layers=2, num_heads=5, hidden_dim=30))
prompts = [[4, 2, 7], [11], [5, 6, 7, 8, 9]]
for sampler in ("greedy", "top_k", "beam"):
    texts = model.generate(prompts, sampler=sampler)
    assert [text[: len(prompt)] for text, prompt in zip(texts, prompts)] == prompts
    assert {len(text) for text in texts} == {17}
    again = model.generate(prompts, sampler=sampler)
    assert (again == texts) == (sampler != "top_k")
text = prompts[1]
while len(text) < 17:
    text = [*text, int(keras.ops.argmax(model(keras.ops.array([text]))[0, -1]))]
assert model.generate(prompts, sampler="greedy")[1] == text
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_on_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(JAX_PROGRAM)], cwd=ROOT, env=environment, check=True
    )
