"""An engine without a model: it answers by a rule, and writes down every call."""

import types

import numpy as np

from neo_keras.generation.engine import Engine, Runner

VOCAB_SIZE = 13


class ScriptedRunner(Runner):
    """After token t comes t + 1, modulo the vocabulary; or what `logits_after(held)` says.

    Like a real cache it writes whole chunks, padding and all, and an earlier slot where a chunk
    does not fit.

    Attributes:
        calls: ("reset",), ("prefill", position, tokens) and ("decode", position, token).
        slots: int [max_seq_len], what the cache holds.
    """

    functions, cache = ("decode", "prefill"), None

    def __init__(self, max_seq_len, chunk_size, logits_after=None):
        self.slots = np.full(max_seq_len, -1)
        self.calls = []
        self.chunk_size = chunk_size
        self.logits_after = logits_after or (lambda held: one_hot((held[-1] + 1) % VOCAB_SIZE))

    def reset(self):
        self.calls.append(("reset",))

    def run(self, name, tokens, input_pos, **others):
        assert (tokens.dtype, input_pos.dtype) == (np.int32, np.int32)
        assert input_pos.tolist() == list(range(input_pos[0], input_pos[0] + tokens.shape[1]))
        start = min(input_pos[0], len(self.slots) - tokens.shape[1])
        self.slots[start : start + tokens.shape[1]] = tokens[0]
        return getattr(self, f"run_{name}")(tokens, int(input_pos[0]), **others)

    def run_prefill(self, tokens, position):
        assert tokens.shape == (1, self.chunk_size)
        self.calls.append(("prefill", position, tokens[0].tolist()))
        return {}

    def run_decode(self, tokens, position):
        assert tokens.shape == (1, 1)
        self.calls.append(("decode", position, int(tokens[0, 0])))
        return {"logits": self.logits_after(self.slots[: position + 1].tolist())[None]}


class ScriptedEngine(Engine):
    """An engine over a `ScriptedRunner`, whose arguments and attributes it has."""

    runner_class = ScriptedRunner

    def __init__(self, max_seq_len=7, chunk_size=3, logits_after=None, num_drafts=0):
        config = types.SimpleNamespace(
            vocab_size=VOCAB_SIZE, max_seq_len=max_seq_len, num_speculative_tokens=num_drafts,
            architecture="decoder-only", end_token_id=None,
        )  # fmt: skip
        super().__init__(self.runner_class(max_seq_len, chunk_size, logits_after), config)
        self.chunk_size = chunk_size

    @property
    def calls(self):
        return self._runner.calls

    @property
    def held(self):
        """The tokens that the cache holds."""
        return self._runner.slots[: self.position].tolist()

    def count(self, kind):
        return sum(call[0] == kind for call in self.calls)


def one_hot(token_id, vocab_size=VOCAB_SIZE):
    return np.eye(vocab_size, dtype="float32")[token_id]
