"""The decode loop: one generator of tokens for every engine, and text on top of it."""

import itertools

import numpy as np

from neo_keras.errors import FailedError, InputError


def generate_ids(engine, prompt_ids, sampler, seed, banned_ids=()):
    """Yields token ids, without end unless the model has a token for it.

    Past the context window it goes on after the window's last `engine.num_kept` tokens.

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
    engine.begin(window)
    for step in itertools.count():
        logits = np.array(engine.decode(window[-1]))
        if not np.isfinite(logits).all():
            raise FailedError(
                "the model's logits are not finite: its training diverged; train again with a "
                "smaller --learning-rate"
            )
        logits[list(banned_ids)] = -np.inf
        token_id = sampler.sample(logits, seed, step)
        if token_id == engine.end_token_id:
            return
        yield token_id
        window.append(token_id)
        if engine.position == engine.max_seq_len:
            if not engine.num_kept:
                return
            window = window[-engine.num_kept :]
            engine.begin(window)


def generate_text(engine, tokenizer, prompt, max_tokens, sampler, seed=0, stop=None):
    """Yields the continuation of a prompt or, of a model of pairs, its target, piece by piece.

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

    Raises:
        InputError: the prompt is no source for a model of pairs.
    """
    prompt_ids = _prompt_ids(engine, tokenizer, prompt)
    banned_ids = [] if tokenizer.unk_token_id is None else [tokenizer.unk_token_id]
    ids = generate_ids(engine, prompt_ids, sampler, seed, banned_ids)
    stream = tokenizer.stream()
    pieces = (stream(token_id) for token_id in itertools.islice(ids, max_tokens))
    yield from filter(None, until(stop, pieces) if stop else pieces)


def _prompt_ids(engine, tokenizer, prompt):
    if engine.end_token_id is None:
        return tokenizer.encode(prompt) if prompt else [tokenizer.start_token_id]
    source = prompt.strip("\n")
    if not source.strip():
        raise InputError("the model makes a target of a source: give the source with --prompt")
    source_ids = [*tokenizer.encode(source), engine.end_token_id]
    if len(source_ids) > engine.max_seq_len:
        raise InputError(
            f"the source has {len(source_ids)} tokens with its end, and the model takes "
            f"{engine.max_seq_len}: give a shorter one"
        )
    return source_ids


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
