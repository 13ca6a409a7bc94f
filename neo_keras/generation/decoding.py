"""The decode loop: one generator of tokens for every engine, and text on top of it."""

import functools
import itertools
import warnings

import numpy as np

from neo_keras.errors import FailedError, InputError
from neo_keras.generation.sampler import GREEDY, penalized


def generate_ids(engine, prompt_ids, sampler, seed, suppress_tokens=(), reuse=False):
    """Yields int token ids, without end unless a model of pairs ends its target.

    Past the context window it goes on after the window's last `engine.context_shift_keep` tokens.
    It raises `FailedError` where the model gives no numbers.

    Args:
        prompt_ids: at least one token id; the last `engine.max_seq_len` count.
        suppress_tokens: tokens that are never sampled.
        reuse: of the cache, as `Engine.begin` takes it.
    """
    window, source_len = _begin(engine, prompt_ids, reuse)
    for step in itertools.count():
        noise = functools.partial(sampler.noise, seed, step)
        logits = _next_logits(engine, window, source_len, sampler, suppress_tokens, noise)
        token_id = sampler.sample(logits, seed, step)
        if token_id == engine.end_token_id:
            return
        yield token_id
        window.append(token_id)
        if not (window := _context_shift(engine, window)):
            return


def beam_search(engine, prompt_ids, num_beams, max_tokens, suppress_tokens=(), sampler=GREEDY):
    """Beam search: after each token the `num_beams` most likely texts stay.

    Texts that end are compared with others by their log-probability per token. Arguments are as for
    `generate_ids`; of the sampler, only the repetition penalty counts.

    Returns:
        list of int token ids.
    """
    window, source_len = _begin(engine, prompt_ids)
    beams, ended = [(0.0, [], window, engine.state)], []  # log-probability, new tokens, ...
    while beams and len(beams[0][1]) < max_tokens:
        grown = []
        for score, token_ids, window, state in beams:
            engine.state = state
            logits = np.float64(_next_logits(engine, window, source_len, sampler, suppress_tokens))
            logits -= logits.max()
            scores = score + logits - np.log(np.exp(logits).sum())
            best = np.argsort(-scores, kind="stable")[:num_beams].tolist()
            grown += [(scores[i], [*token_ids, i], window, engine.state) for i in best]
        beams = []
        for score, token_ids, window, state in sorted(grown, key=lambda b: -b[0])[:num_beams]:
            engine.state = state
            if token_ids[-1] == engine.end_token_id:
                ended.append((score / len(token_ids), token_ids[:-1]))
            elif window := _context_shift(engine, [*window, token_ids[-1]]):
                beams.append((score, token_ids, window, engine.state))
            else:
                ended.append((score / len(token_ids), token_ids))
    ended += [(score / max(len(token_ids), 1), token_ids) for score, token_ids, _, _ in beams]
    return max(ended, key=lambda text: text[0])[1]


def _begin(engine, prompt_ids, reuse=False):
    """(the window, how many of its tokens are the source of a pair, and not of the text itself)."""
    window = [int(token_id) for token_id in prompt_ids[-engine.max_seq_len :]]
    engine.begin(window, reuse)
    return window, 0 if engine.end_token_id is None else len(window)


def _next_logits(engine, window, source_len, sampler, suppress_tokens, noise=None):
    logits = np.array(engine.decode(window[-1], noise))
    check_finite(logits)
    if sampler.repetition_penalty != 1:
        logits = penalized(logits, window[source_len:], sampler.repetition_penalty)
    logits[np.asarray(suppress_tokens, int)] = -np.inf
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


def generate_text(
    engine, tokenizer, prompt, max_tokens, sampler, seed=0, stop_strings=(), num_beams=1, end_ids=()
):
    """Continues a prompt or, with a model of pairs, makes the target of a source.

    The text ends before any of the tokenizer's end tokens. What is unknown in the prompt is
    warned of at once. Where the tokenizer's configuration says so, the prompt begins with a token
    for the beginning, unless that would not fit before it.

    Args:
        prompt: str; an empty one begins with that token, or as after a line break.
        stop_strings: the first of them to come ends the text, and is not part of it.
        num_beams: above 1: beam search, which makes its text at once.
        end_ids: tokens that end the text, too.

    Returns:
        iterator of str, not empty: a chunk is made when it is asked for.

    Raises:
        InputError: the prompt is no source for a model of pairs, or the engine has no beam search.
    """
    if engine.end_token_id is None:  # else the prompt is a source, of which all counts
        prompt = tokenizer.tail(prompt, engine.max_seq_len)
    warn_of_unknown(tokenizer, prompt)
    prompt_ids = _prompt_ids(engine, tokenizer, prompt)
    suppressed = tokenizer.suppressed_ids(engine.vocab_size)

    def new_ids():
        if num_beams > 1:
            yield from beam_search(engine, prompt_ids, num_beams, max_tokens, suppressed, sampler)
        else:
            yield from generate_ids(engine, prompt_ids, sampler, seed, suppressed)

    token_ids = itertools.islice(new_ids(), max_tokens)
    return stream_text(tokenizer, token_ids, [*tokenizer.end_token_ids, *end_ids], stop_strings)


def stream_text(tokenizer, token_ids, end_ids, stop_strings=()):
    """Yields the text of token ids up to the first of `end_ids`, or to a stop string."""
    chunks = tokenizer.stream(itertools.takewhile(lambda i: i not in end_ids, token_ids))
    return filter(None, stop_at(stop_strings, chunks)) if stop_strings else chunks


def warn_of_unknown(tokenizer, prompt):
    """Warns of what a tokenizer does not know in a prompt."""
    if unknown := tokenizer.unknown_in(prompt):
        names = ", ".join(map(repr, unknown[:10]))
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        unk_token = tokenizer.decode([tokenizer.unk_token_id])
        message = f"the model has never seen {names}{more}: replaced by {unk_token}"
        warnings.warn(message, stacklevel=3)


def _prompt_ids(engine, tokenizer, prompt):
    if engine.end_token_id is None:
        first = [tokenizer.bos_token_id] if tokenizer.config.add_bos_token else []
        return [*first, *tokenizer.encode(prompt)] or [tokenizer.start_token_id]
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


def stop_at(stop_strings, chunks):
    """Yields the chunks of a text up to the stop string that is complete first.

    It holds back what may be the start of one, so it does not matter how the text is cut.

    Args:
        stop_strings: sequence of str, none of them empty.
        chunks: iterable of str.
    """
    held = ""
    for chunk in chunks:
        held += chunk
        found = [(held.index(s) + len(s), -len(s)) for s in stop_strings if s in held]
        if found:
            yield held[: sum(min(found))]
            return
        possible = max(n for s in stop_strings for n in range(len(s)) if held.endswith(s[:n]))
        yield held[: len(held) - possible]
        held = held[len(held) - possible :]
    yield held
