"""Learns a tokenizer from a text of any size."""

import math
import os
import random
import re
from collections.abc import Iterable, Iterator

from neo_keras.errors import InputError
from neo_keras.text import tokenizer_models
from neo_keras.text.tokenizer import Tokenizer

DEFAULT_VOCAB_SIZE = {"word": 8192, "bpe": 1024}
MIN_VOCAB_SIZE = {"word": 2, "bpe": 256}  # a word and the unknown token; a token for each byte
MAX_VOCAB_SIZE = 2**20

# Words and BPE are learned from a sample of a large text. BPE takes 70 bytes of memory for each
# byte of all different words together: so that has a limit too.
MAX_SAMPLE_CHARS = 2**25
MAX_WORD_BYTES = 2**22
# BPE takes time in proportion to the length of a word at each merge: longer ones are cut.
MAX_WORD_CHARS = 256
_LONG_WORD_HEAD = re.compile(rf"\S{{{MAX_WORD_CHARS}}}(?=\S)")


def make_tokenizer(
    name: str, texts: str | Iterable[str], vocab_size: int | None = None
) -> Tokenizer:
    """Makes the tokenizer that a person asks for.

    Args:
        name: One of `tokenizer_models.KINDS`, or the path of a `tokenizer.json`, which is trained
            already.
        texts: The text to train on, or its parts, which are read more than once.
        vocab_size: Of "word" and "bpe"; None: `DEFAULT_VOCAB_SIZE`. A small text may give less.

    Returns:
        The tokenizer.

    Raises:
        InputError: There is no such tokenizer, or it cannot have this size.
    """
    check_request(name, vocab_size)
    texts = [texts] if isinstance(texts, str) else texts
    if name == "char":
        return Tokenizer.characters_of(texts)
    if name == "byte":
        return Tokenizer(tokenizer_models.single_bytes())
    if name not in tokenizer_models.KINDS:
        return Tokenizer.load(name)
    vocab_size = vocab_size or DEFAULT_VOCAB_SIZE[name]
    if name == "bpe":
        return Tokenizer(tokenizer_models.train_bpe(_short_words(_sample(texts)), vocab_size))
    tokenizer = Tokenizer(tokenizer_models.train_word_level(_sample(texts), vocab_size))
    if tokenizer.vocab_size < vocab_size and not _has_words(tokenizer) and any(texts):
        raise InputError(
            "the tokenizer word needs a text in which words stand between spaces and come again, "
            "got one where no word comes twice: use char or bpe (--tokenizer)"
        )
    return tokenizer


def check_request(name: str, vocab_size: int | None):
    """Raises `InputError` where `make_tokenizer` would, before any text is read."""
    if name not in tokenizer_models.KINDS and not os.path.exists(name):
        raise InputError(
            f"tokenizer must be one of {', '.join(tokenizer_models.KINDS)} or the path of a "
            f"tokenizer.json, got {name!r}, which is no file"
        )
    if vocab_size is None:
        return
    if name not in DEFAULT_VOCAB_SIZE:
        raise InputError(
            f"vocab_size (--vocab-size) is of word and bpe, which learn so many tokens; the "
            f"tokenizer {name} has a size of its own: leave it out"
        )
    if not MIN_VOCAB_SIZE[name] <= vocab_size <= MAX_VOCAB_SIZE:
        smallest = {"word": "a word and the unknown token", "bpe": "one token for each byte"}[name]
        raise InputError(
            f"vocab_size (--vocab-size) of {name} must be from {MIN_VOCAB_SIZE[name]} ({smallest}) "
            f"to {MAX_VOCAB_SIZE}, got {vocab_size}"
        )


def _sample(texts: Iterable[str]) -> Iterator[str]:
    """Pieces from all parts of the text: all of them, unless there are too many."""
    num_chars = sum(len(text) for text in texts)
    step = max(math.ceil(num_chars / MAX_SAMPLE_CHARS), 1)
    pieces = [piece for i, piece in enumerate(tokenizer_models.pieces_of(texts)) if i % step == 0]
    # So that what is taken before the limit is reached is from everywhere, too.
    random.Random(0).shuffle(pieces)
    words, num_bytes = set(), 0
    for piece in pieces:
        yield piece
        new_words = set(piece.split()) - words
        words |= new_words
        num_bytes += sum(len(word.encode()) for word in new_words)
        if num_bytes > MAX_WORD_BYTES:
            return


def _short_words(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        start = 0
        for head in _LONG_WORD_HEAD.finditer(text):
            yield text[start : head.end()]
            start = head.end()
        yield text[start:]


def _has_words(tokenizer):
    tokens = (tokenizer.decode([i]) for i in range(tokenizer.vocab_size))
    return any(
        re.search(r"[^\W_]", token) for token in tokens if token != tokenizer_models.UNK_TOKEN
    )
