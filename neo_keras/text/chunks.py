"""Cuts a text of any size into chunks, where no token is cut, whatever the tokenizer."""

import math
import random
import re
from collections.abc import Iterable, Iterator

import tokenizers

from neo_keras.errors import InputError

MIN_CHUNK_CHARS = 1024
MAX_CHUNK_CHARS = 16 * MIN_CHUNK_CHARS
MAX_WORD_CHARS = 128 * MIN_CHUNK_CHARS  # BPE takes some 100 bytes of memory for each byte of one
# No token, but an added one, reaches from what is no space into a space, or from a letter into
# these.
_BOUNDARY = re.compile(r"(?<=\S)(?=[ \n])|(?<=[^\W_])(?=[.,;:!?。、，！？；：])")

# Tokenizers are trained on a sample of a large text. BPE takes 70 bytes of memory for each byte of
# all different words together: so that has a limit too.
MAX_SAMPLE_CHARS = 2**25
MAX_SAMPLE_WORD_BYTES = 2**22
# BPE takes time in proportion to the length of a word at each merge: longer ones are cut.
MAX_SAMPLE_WORD_CHARS = 256
_LONG_WORD_HEAD = re.compile(rf"\S{{{MAX_SAMPLE_WORD_CHARS}}}(?=\S)")


class Chunker:
    """Cuts a text of any size into chunks of some `MIN_CHUNK_CHARS`.

    Args:
        hf: The tokenizer, whose added tokens are never cut; None: there are none.
        max_word_chars: Only what has no space or punctuation for so long is cut anywhere.

    Attributes:
        lookahead: How many characters after a place may decide about an added token before it.

    Raises:
        InputError: An added token takes, or looks at, what stands around it.
    """

    def __init__(
        self, hf: tokenizers.Tokenizer | None = None, max_word_chars: int = MAX_CHUNK_CHARS
    ):
        tokens = list(hf.get_added_tokens_decoder().values()) if hf else []
        for token in tokens:
            for flag in ("lstrip", "rstrip", "single_word"):
                if getattr(token, flag):
                    raise InputError(
                        "expected added tokens that leave the text around them alone, got "
                        f"{token.content!r} with {flag}; set that to false in its tokenizer.json"
                    )
        # As in Hugging Face's library, those that are not normalized come first; the others are
        # looked for in what is left.
        self._added_tokens = [
            _pattern([token.content for token in tokens if token.normalized == is_normalized])
            for is_normalized in (False, True)
        ]
        self._max_word_chars = max_word_chars
        self.lookahead = 2 * max((len(token.content) for token in tokens), default=0)

    def chunks(self, texts: Iterable[str], ahead: str = "") -> Iterator[str]:
        """Yields the chunks.

        Args:
            texts: The parts of the text.
            ahead: What comes after the text: the last chunk takes of it what an added token does.
        """
        rest = ""
        for text in texts:
            rest += text
            start = 0
            for stop in self._cuts(rest):
                yield rest[start:stop]
                start = stop
            rest = rest[start:]
        if rest:
            spans = self._spans(rest + ahead)
            reached = (stop for start, stop in spans if start < len(rest) < stop)
            yield (rest + ahead)[: next(reached, len(rest))]

    def _cuts(self, text):
        """Yields where to cut a text of which more may come."""
        spans, (token_start, token_stop) = self._spans(text), (0, 0)
        position = 0
        while len(text) - position > MAX_CHUNK_CHARS + self.lookahead:
            last = min(position + self._max_word_chars, len(text) - self.lookahead)
            boundary = _BOUNDARY.search(text, position + MIN_CHUNK_CHARS, last)
            if not boundary and last < position + self._max_word_chars:
                return
            position = boundary.start() if boundary else last
            while token_stop <= position:
                token_start, token_stop = next(spans, (len(text), len(text) + 1))
            if token_start < position:
                position = token_stop
            yield position

    def _spans(self, text):
        """Yields (start, stop) of the added tokens of a text, which begins with none that is cut.

        Within `lookahead` characters of the end it may be another one when the text goes on.
        """
        first, second = self._added_tokens
        start = 0
        for match in first.finditer(text):
            yield from (m.span() for m in second.finditer(text, start, match.start()))
            yield match.span()
            start = match.end()
        yield from (m.span() for m in second.finditer(text, start))


def _pattern(contents):
    """Of two that begin at one place the longer one counts; the pattern of none never matches."""
    contents = sorted(contents, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, contents)) or r"(?!)")


def last_boundary(text: str) -> int | None:
    """The last place near the end of a text where no token but an added one is cut, or None."""
    tail = max(len(text) - MAX_WORD_CHARS, 0)
    return max((match.start() for match in _BOUNDARY.finditer(text, tail)), default=None)


def sample(texts: Iterable[str]) -> Iterator[str]:
    """Yields chunks from all parts of a text, which are read twice; all, if these are few."""
    num_chars = sum(len(text) for text in texts)
    step = max(math.ceil(num_chars / MAX_SAMPLE_CHARS), 1)
    chunks = [chunk for i, chunk in enumerate(Chunker().chunks(texts)) if i % step == 0]
    # So that what is taken before the limit is reached is from everywhere, too.
    random.Random(0).shuffle(chunks)
    words, num_bytes = set(), 0
    for chunk in chunks:
        yield chunk
        new_words = set(chunk.split()) - words
        words |= new_words
        num_bytes += sum(len(word.encode()) for word in new_words)
        if num_bytes > MAX_SAMPLE_WORD_BYTES:
            return


def cut_long_words(texts: Iterable[str]) -> Iterator[str]:
    """Yields texts without words of more than `MAX_SAMPLE_WORD_CHARS`: these are cut."""
    for text in texts:
        start = 0
        for head in _LONG_WORD_HEAD.finditer(text):
            yield text[start : head.end()]
            start = head.end()
        yield text[start:]
