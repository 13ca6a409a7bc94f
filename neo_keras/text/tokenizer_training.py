"""Makes the tokenizer that a person asks for."""

import os
from collections.abc import Iterable

from neo_keras.errors import InputError
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_models import KINDS, MAX_VOCAB_SIZE


def make_tokenizer(
    name: str, texts: str | Iterable[str], vocab_size: int | None = None
) -> Tokenizer:
    """Makes the tokenizer that a person asks for.

    Args:
        name: A key of `KINDS`, or the path of a `tokenizer.json`, which is trained already.
        texts: The text to train on, or its parts, which are read more than once.
        vocab_size: Of a kind that has one to choose; None: its default. A small text may give less.

    Raises:
        InputError: There is no such tokenizer, or it cannot have this size.
    """
    check_request(name, vocab_size)
    if name not in KINDS:
        return Tokenizer.load(name)
    texts = [texts] if isinstance(texts, str) else texts
    return Tokenizer(KINDS[name].train(texts, vocab_size or KINDS[name].vocab_size))


def check_request(name: str, vocab_size: int | None):
    """Raises `InputError` where `make_tokenizer` would, before any text is read."""
    if name not in KINDS and not os.path.exists(name):
        raise InputError(
            f"tokenizer must be one of {', '.join(KINDS)} or the path of a tokenizer.json, got "
            f"{name!r}, which is no file"
        )
    if vocab_size is None:
        return
    kind = KINDS.get(name)
    if not kind or not kind.vocab_size:
        names = " and ".join(name for name, kind in KINDS.items() if kind.vocab_size)
        raise InputError(
            f"vocab_size (--vocab-size) is of {names}, which learn so many tokens; the tokenizer "
            f"{name} has a size of its own: leave it out"
        )
    if not kind.min_vocab_size <= vocab_size <= MAX_VOCAB_SIZE:
        raise InputError(
            f"vocab_size (--vocab-size) of {name} must be from {kind.min_vocab_size} "
            f"({kind.smallest}) to {MAX_VOCAB_SIZE}, got {vocab_size}"
        )
