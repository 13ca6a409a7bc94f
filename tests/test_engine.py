"""How an engine fills its cache: prompts in chunks, padded where that is harmless."""

import numpy as np
import pytest
from scripted_engine import ScriptedEngine

from neo_keras.generation.engine import MAX_CHUNK_SIZE, chunk_size_for


def test_chunk_size():
    assert MAX_CHUNK_SIZE == 64
    assert [chunk_size_for(n) for n in (1, 2, 8, 32)] == [1, 2, 8, 32]
    assert all(chunk_size_for(n) <= n for n in range(1, 64))
    assert chunk_size_for(64) == chunk_size_for(97) == 64


@pytest.mark.parametrize(
    ("held", "count", "calls"),
    [
        (0, 0, []),
        (0, 1, [("prefill", 0, [1, 0, 0])]),
        (0, 3, [("prefill", 0, [1, 2, 3])]),
        (0, 4, [("prefill", 0, [1, 2, 3]), ("prefill", 3, [4, 0, 0])]),
        # A third chunk would end at 9, past the 7 slots: one token at a time.
        (0, 7, [("prefill", 0, [1, 2, 3]), ("prefill", 3, [4, 5, 6]), ("decode", 6, 7)]),
        (4, 2, [("prefill", 4, [1, 2, 0])]),
        (5, 2, [("decode", 5, 1), ("decode", 6, 2)]),
        (2, 5, [("prefill", 2, [1, 2, 3]), ("decode", 5, 4), ("decode", 6, 5)]),
    ],
)
def test_prefill_in_chunks(held, count, calls):
    engine = ScriptedEngine()
    earlier = [11] * held
    for token_id in earlier:
        engine.decode(token_id)
    engine.calls.clear()
    engine.prefill(range(1, count + 1))
    assert engine.calls == calls
    assert engine.position == held + count
    assert engine.held == earlier + list(range(1, count + 1))


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("count", range(8))
def test_prefill_holds_what_it_was_given(chunk_size, count):
    engine = ScriptedEngine(chunk_size=chunk_size)
    engine.prefill(np.arange(count)[::-1])
    assert engine.held == list(range(count))[::-1]


def test_a_full_cache_takes_no_more():
    engine = ScriptedEngine()
    engine.prefill(range(7))
    engine.calls.clear()
    with pytest.raises(ValueError, match="holds 7 tokens and is full: reset it"):
        engine.decode(5)
    with pytest.raises(ValueError, match="full"):
        engine.prefill([5])
    assert engine.calls == []
    engine.reset()
    engine.decode(5)
    assert engine.held == [5]
