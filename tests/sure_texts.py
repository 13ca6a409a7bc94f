"""Texts to hold other runtimes' against, up to the first token that rounding may turn over."""

import contextlib
import itertools

import numpy as np

from neo_keras.generation.decoding import generate_ids, generate_text
from neo_keras.generation.sampler import GREEDY

ROUNDING = 3e-4  # more than two logits of a tiny model may move against each other


class _NearTie(Exception):
    """Another token would be taken if its logit were a little larger."""


class _Sure:
    """A sampler that raises `_NearTie`."""

    def __init__(self, sampler):
        self.noise, self.repetition_penalty = sampler.noise, sampler.repetition_penalty
        self._sampler = sampler

    def sample(self, logits, seed, step):
        token_id = self._sampler.sample(logits, seed, step)
        others = np.arange(len(logits)) != token_id
        if self._sampler.sample(logits + ROUNDING * others, seed, step) != token_id:
            raise _NearTie
        return token_id


def sure_text(engine, tokenizer, prompt, max_tokens, sampler=GREEDY, seed=0):
    """What `generate_text` gives, str."""
    return "".join(
        _sure(generate_text, engine, tokenizer, prompt, max_tokens, _Sure(sampler), seed)
    )


def sure_ids(engine, prompt_ids, count, sampler=GREEDY, seed=0, suppress_tokens=()):
    """What `generate_ids` gives, list of `count` ids at most."""
    ids = _sure(generate_ids, engine, prompt_ids, _Sure(sampler), seed, suppress_tokens)
    return list(itertools.islice(ids, count))


def _sure(generate, *args):
    with contextlib.suppress(_NearTie):
        yield from generate(*args)
