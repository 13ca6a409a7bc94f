"""The decode loop: one generator of tokens for every engine, and text on top of it."""

import functools
import itertools
import warnings

import numpy as np

from neo_keras.errors import FailedError, InputError
from neo_keras.generation.sampler import GREEDY, penalized


def generate_ids(engine, prompt_ids, sampler, seed, suppress_tokens=()):
    """Yields token ids, without end unless the model has a token for it.

    Past the context window it goes on after the window's last `engine.context_shift_keep` tokens.

    Args:
        engine: `Engine`.
        prompt_ids: at least one token id; the last `engine.max_seq_len` count.
        sampler: `Sampler`.
        seed: int.
        suppress_tokens: tokens that are never drawn.

    Yields:
        int token ids.

    Raises:
        FailedError: the model gives no numbers.
    """
    window = [int(token_id) for token_id in prompt_ids[-engine.max_seq_len :]]
    engine.begin(window)
    source_len = _source_len(engine, window)
    for step in itertools.count():
        noise = functools.partial(sampler.noise, seed, step)
        logits = _next_logits(engine, window, source_len, sampler, suppress_tokens, noise)
        token_id = sampler.sample(logits, seed, step)
        if token_id == engine.end_token_id:
            return
        yield token_id
        window = _context_shift(engine, [*window, token_id])
        if not window:
            return


def beam_search(engine, prompt_ids, num_beams, max_tokens, suppress_tokens=(), sampler=GREEDY):
    """Looks for the likeliest continuation: after each token the likeliest `num_beams` texts stay.

    Texts that end are compared with others by their log-probability per token.

    Args:
        engine: an `Engine` that has a `state`.
        prompt_ids, suppress_tokens: as for `generate_ids`.
        num_beams: 1 is greedy.
        max_tokens: at least 1.
        sampler: `Sampler`, of which only the penalty on repetition counts.

    Returns:
        list of int token ids.
    """
    window = [int(token_id) for token_id in prompt_ids[-engine.max_seq_len :]]
    engine.begin(window)
    source_len = _source_len(engine, window)
    beams, ended = [(0.0, [], window, engine.state)], []  # log-probability, new tokens, ...
    while beams and len(beams[0][1]) < max_tokens:
        grown = []
        for score, token_ids, window, state in beams:
            engine.state = state
            logits = np.float64(_next_logits(engine, window, source_len, sampler, suppress_tokens))
            logits -= logits.max()
            scores = score + logits - np.log(np.exp(logits).sum())
            for token_id in np.argsort(-scores, kind="stable")[:num_beams].tolist():
                grown.append((scores[token_id], token_ids, token_id, window, engine.state))
        beams = []
        grown.sort(key=lambda beam: -beam[0])
        for score, token_ids, token_id, window, state in grown[:num_beams]:
            if token_id == engine.end_token_id:
                ended.append((score / (len(token_ids) + 1), token_ids))
                continue
            engine.state = state
            token_ids = [*token_ids, token_id]
            if window := _context_shift(engine, [*window, token_id]):
                beams.append((score, token_ids, window, engine.state))
            else:
                ended.append((score / len(token_ids), token_ids))
    ended += [(score / max(len(token_ids), 1), token_ids) for score, token_ids, _, _ in beams]
    return max(ended, key=lambda text: text[0])[1]


def _source_len(engine, window):
    """How much of the window is another text than the one that is written: the source of a pair."""
    return 0 if engine.end_token_id is None else len(window)


def _next_logits(engine, window, source_len, sampler, suppress_tokens, noise=None):
    logits = np.array(engine.decode(window[-1], noise))
    check_finite(logits)
    if sampler.repetition_penalty != 1:
        logits = penalized(logits, window[source_len:], sampler.repetition_penalty)
    for token_id in suppress_tokens:  # one or none, mostly
        logits[token_id] = -np.inf
    return logits


def check_finite(logits):
    """Raises `FailedError` where a model gives no numbers."""
    if not np.isfinite(logits).all():
        raise FailedError(
            "the model's logits are not finite: its training diverged; train again with a "
            "smaller --learning-rate"
        )


def _context_shift(engine, window):
    """The window, shortened and begun anew where the cache is full; empty where the text ends."""
    if engine.position == engine.max_seq_len:
        window = window[-engine.context_shift_keep :] if engine.context_shift_keep else []
        if window:
            engine.begin(window)
    return window


def generate_text(engine, tokenizer, prompt, max_tokens, sampler, seed=0, stops=(), num_beams=1):
    """The continuation of a prompt or, of a model of pairs, its target, piece by piece.

    Of a search with beams it is one piece, at the end. Warns at once of what is unknown in the
    prompt.

    Args:
        engine: `Engine`.
        tokenizer: `Tokenizer`.
        prompt: str; an empty one begins as after a line break.
        max_tokens: int, how many to generate at most.
        sampler: `Sampler`.
        seed: int.
        stops: texts of which the first to come ends the continuation, and is not part of it.
        num_beams: above 1: search, with so many texts at a time, instead of drawing.

    Returns:
        iterator of str, not empty: a piece is made when it is asked for.

    Raises:
        InputError: the prompt is no source for a model of pairs.
    """
    if engine.end_token_id is None:  # else the prompt is a source, of which all counts
        prompt = tokenizer.tail(prompt, engine.max_seq_len)
    _warn_of_unknown(tokenizer, prompt)
    prompt_ids = _prompt_ids(engine, tokenizer, prompt)
    suppress_tokens = [] if tokenizer.unk_token_id is None else [tokenizer.unk_token_id]

    def new_ids():
        if num_beams > 1:
            yield from beam_search(
                engine, prompt_ids, num_beams, max_tokens, suppress_tokens, sampler
            )
        else:
            yield from generate_ids(engine, prompt_ids, sampler, seed, suppress_tokens)

    pieces = tokenizer.stream(itertools.islice(new_ids(), max_tokens))
    return filter(None, until(stops, pieces)) if stops else pieces


def _warn_of_unknown(tokenizer, prompt):
    if unknown := tokenizer.unknown_in(prompt):
        names = ", ".join(map(repr, unknown[:10]))
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        unk_token = tokenizer.decode([tokenizer.unk_token_id])
        warnings.warn(
            f"the model has never seen {names}{more}: replaced by {unk_token}", stacklevel=3
        )


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


def until(stops, pieces):
    """Yields the pieces of a text up to a stop text; holds back what may be the beginning of one.

    Of several in the text it is the one that is complete first: it does not matter how the text is
    cut into pieces.

    Args:
        stops: sequence of str, none of them empty.
        pieces: iterable of str.

    Yields:
        str.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [(held.index(stop) + len(stop), -len(stop)) for stop in stops if stop in held]
        if found:
            yield held[: sum(min(found))]
            return
        possible = max(n for stop in stops for n in range(len(stop)) if held.endswith(stop[:n]))
        yield held[: len(held) - possible]
        held = held[len(held) - possible :]
    yield held
