"""Cuts a text of any size into chunks, where no token is cut, whatever the tokenizer."""

import itertools
import math
import random
import re
import sys
from collections.abc import Iterable, Iterator

import tokenizers

from neo_keras.text.cuts import NOWHERE, Cuts

MIN_CHUNK_CHARS = 1024
MAX_CHUNK_CHARS = 16 * MIN_CHUNK_CHARS
MAX_WORD_CHARS = 128 * MIN_CHUNK_CHARS  # BPE takes some 100 bytes of memory for each byte of one

# Tokenizers are trained on a sample of a large text. BPE takes 70 bytes of memory for each byte of
# all different words together: so that has a limit too.
MAX_SAMPLE_CHARS = 2**25
MAX_SAMPLE_WORD_BYTES = 2**22
# BPE takes time in proportion to the length of a word at each merge: longer ones are cut.
MAX_SAMPLE_WORD_CHARS = 256
_LONG_WORD_HEAD = re.compile(rf"\S{{{MAX_SAMPLE_WORD_CHARS}}}(?=\S)")


class Chunker:
    """Cuts a text where no token is cut, not even an added one of a tokenizer; see `Cuts`."""

    def __init__(self, hf: tokenizers.Tokenizer | None = None, cuts: Cuts | None = None):
        tokens = list(hf.get_added_tokens_decoder().values()) if hf else []
        contents = sorted((token.content for token in tokens), key=len, reverse=True)
        # A lookahead finds those that overlap, too: the longest one at each place.
        self._added_token = re.compile(f"(?=({'|'.join(map(re.escape, contents))}))")
        self._reach = len(contents[0]) - 1 if contents else 0  # of one, from a place within it
        self._cut_rule = cuts or Cuts(max_word_chars=MAX_CHUNK_CHARS)

    def chunks(self, texts: Iterable[str]) -> Iterator[str]:
        """Yields the chunks, of some `MIN_CHUNK_CHARS`, of a text that is given in parts."""
        if self._cut_rule.boundary is NOWHERE:
            texts = filter(None, ["".join(texts)])
        rest = ""
        for text in texts:
            rest += text
            start = 0
            for stop in self._cuts(rest):
                yield rest[start:stop]
                start = stop
            rest = rest[start:]
        if rest:
            yield rest

    def last_cut(self, text: str, anywhere: bool = False) -> int | None:
        """The last place to cut a part of a text; anywhere: between any characters, if need be."""
        rule = self._cut_rule
        start, stop = self._reach + rule.adds_prefix, len(text) - self._reach
        boundaries = rule.boundary.finditer(text, max(stop - MAX_WORD_CHARS, start), stop)
        places = [boundary.start() for boundary in boundaries][::-1]
        is_allowed = anywhere and rule.max_word_chars < sys.maxsize
        others = range(stop - 1, start, -1) if is_allowed else ()
        return self._first_between_tokens(text, places, others)

    def _cuts(self, text):
        """Yields where to cut a text of which more may come."""
        rule, position, stop = self._cut_rule, 0, len(text) - self._reach
        while position is not None and stop - position > MAX_CHUNK_CHARS:
            last = position + rule.max_word_chars
            boundaries = rule.boundary.finditer(text, position + MIN_CHUNK_CHARS, min(last, stop))
            places = (boundary.start() for boundary in boundaries)
            position = self._first_between_tokens(text, places, range(last, stop + 1))
            if position is not None:
                yield position

    def _first_between_tokens(self, text, *places):
        """The first place across which no added token stands, or None.

        Where the word after an added token is another one, it is not cut off from that either.
        """
        after = int(self._cut_rule.adds_prefix)
        for place in itertools.chain(*places):
            start, stop = max(place - self._reach - after, 0), place + self._reach
            near = self._added_token.finditer(text, start, stop)
            if not any(match.start() < place < match.end(1) + after for match in near):
                return place
        return None


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
