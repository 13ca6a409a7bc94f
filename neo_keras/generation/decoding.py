"""The decode loop: one generator of tokens for every engine, and text on top of it."""

import itertools
import warnings

import numpy as np

from neo_keras.errors import FailedError


def generate_ids(engine, prompt_ids, sampler, seed, banned_ids=()):
    """Yields token ids without end.

    Past the context window it goes on with the window's later half.

    Args:
        engine: `Engine`.
        prompt_ids: at least one token id; the last `engine.max_seq_len` count.
        sampler: `Sampler`.
        seed: int.
        banned_ids: tokens that are never drawn.

    Yields:
        int token ids.

    Raises:
        FailedError: the model gives no numbers.
    """
    window = [int(token_id) for token_id in prompt_ids[-engine.max_seq_len :]]
    _refill(engine, window)
    for step in itertools.count():
        logits = np.array(engine.decode(window[-1]))
        if not np.isfinite(logits).all():
            raise FailedError(
                "the model's logits are not finite: its training diverged; train again with a "
                "smaller --learning-rate"
            )
        logits[list(banned_ids)] = -np.inf
        token_id = sampler.sample(logits, seed, step)
        yield token_id
        window.append(token_id)
        if len(window) > engine.max_seq_len:
            window = window[-max(engine.max_seq_len // 2, 1) :]
            _refill(engine, window)


def _refill(engine, window):
    engine.reset()
    engine.prefill(window[:-1])


def generate_text(engine, tokenizer, prompt, max_tokens, sampler, seed=0, stop=None):
    """Yields the continuation of a prompt, piece by piece; warns of what is unknown in the prompt.

    Args:
        engine: `Engine`.
        tokenizer: `Tokenizer`.
        prompt: str; an empty one begins as after a line break.
        max_tokens: int, how many to generate at most.
        sampler: `Sampler`.
        seed: int.
        stop: a text that ends the continuation, and is not part of it; or None.

    Yields:
        str, not empty.
    """
    if unknown := tokenizer.unknown_in(prompt):
        names = ", ".join(map(repr, unknown[:10]))
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        unk_token = tokenizer.decode([tokenizer.unk_token_id])
        warnings.warn(
            f"the model has never seen {names}{more}: replaced by {unk_token}", stacklevel=2
        )
    prompt_ids = tokenizer.encode(prompt) if prompt else [tokenizer.start_token_id]
    banned_ids = [] if tokenizer.unk_token_id is None else [tokenizer.unk_token_id]
    ids = generate_ids(engine, prompt_ids, sampler, seed, banned_ids)
    pieces = tokenizer.stream(itertools.islice(ids, max_tokens))
    yield from filter(None, until(stop, pieces)) if stop else pieces


def until(stop, pieces):
    """Yields the pieces of a text up to `stop`; holds back what may be its beginning.

    Args:
        stop: str, not empty.
        pieces: iterable of str.

    Yields:
        str.
    """
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.index(stop)]
            return
        possible = max(n for n in range(len(stop)) if held.endswith(stop[:n]))
        yield held[: len(held) - possible]
        held = held[len(held) - possible :]
    yield held
