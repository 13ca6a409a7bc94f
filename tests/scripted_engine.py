"""An engine without a model: it answers by a rule, and writes down every call."""

import numpy as np

from neo_keras.generation.engine import Engine

VOCAB_SIZE = 13


class ScriptedEngine(Engine):
    """After token t comes t + 1, modulo the vocabulary; or what `logits_after(held)` says.

    Like a real cache it writes whole chunks, padding and all, and an earlier slot where a chunk
    does not fit.

    Attributes:
        calls: ("reset",), ("prefill", position, tokens) and ("decode", position, token).
        held: the tokens that the cache holds.
    """

    def __init__(self, max_seq_len=7, chunk_size=3, logits_after=None):
        super().__init__(max_seq_len, chunk_size)
        self.slots = np.full(max_seq_len, -1)
        self.calls = []
        self.logits_after = logits_after or (lambda held: one_hot((held[-1] + 1) % VOCAB_SIZE))

    @property
    def held(self):
        return self.slots[: self.position].tolist()

    def reset(self):
        super().reset()
        self.calls.append(("reset",))

    def _prefill(self, tokens, input_pos):
        assert (tokens.dtype, input_pos.dtype) == (np.int32, np.int32)
        assert tokens.shape == (1, self.chunk_size)
        self._write(tokens[0], input_pos)
        self.calls.append(("prefill", int(input_pos[0]), tokens[0].tolist()))

    def _decode(self, tokens, input_pos):
        assert (tokens.dtype, input_pos.dtype) == (np.int32, np.int32)
        assert tokens.shape == (1, 1)
        self._write(tokens[0], input_pos)
        self.calls.append(("decode", int(input_pos[0]), int(tokens[0, 0])))
        return self.logits_after(self.slots[: self.position + 1].tolist())

    def _write(self, tokens, input_pos):
        assert input_pos.tolist() == list(range(input_pos[0], input_pos[0] + len(tokens)))
        start = min(input_pos[0], self.max_seq_len - len(tokens))
        self.slots[start : start + len(tokens)] = tokens

    def count(self, kind):
        return sum(call[0] == kind for call in self.calls)


def one_hot(token_id, vocab_size=VOCAB_SIZE):
    return np.eye(vocab_size, dtype="float32")[token_id]
