"""Text -> token ids, for texts of any size, on all cores."""

import functools
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np
import tokenizers

from neo_keras.text.chunks import MAX_WORD_CHARS, AddedTokens, chunks_of
from neo_keras.text.tokenizer_models import TokenizerKind

# Large enough to keep every core busy, small enough that the details of a group fit in memory.
_CHARS_PER_GROUP = 2**18


class Encoder:
    """Encodes as Hugging Face's library encodes the whole text.

    Attributes:
        lookahead: How many characters after a text may belong to an added token that begins in it.
    """

    def __init__(self, hf: tokenizers.Tokenizer, kind: TokenizerKind):
        self._hf, self._kind = hf, kind
        self._added_tokens = AddedTokens(hf)
        self.lookahead = self._added_tokens.lookahead

    def chunks_of(self, texts: Iterable[str], ahead: str = "") -> Iterator[str]:
        """Cuts a text where no token is cut.

        Args:
            texts: The parts of the text, which may be larger than memory.
            ahead: The next `lookahead` characters, if the text is part of another.

        Yields:
            The text and, where an added token reaches over its end, the rest of that token.
        """
        if self._look_up is None:
            yield from chunks_of(texts, MAX_WORD_CHARS, self._added_tokens, ahead)
            return
        for text in texts:
            for start in range(0, len(text), _CHARS_PER_GROUP):
                yield text[start : start + _CHARS_PER_GROUP]

    def encode(self, texts: Iterable[str], ahead: str = "") -> Iterator[tuple[str, np.ndarray]]:
        """Encodes a text, given as to `chunks_of`.

        Yields:
            (the next part of what `chunks_of` yields, its token ids: int32 [num_tokens])
        """
        chunks = self.chunks_of(texts, ahead)
        if self._look_up is not None:
            yield from ((chunk, self._look_up(chunk)) for chunk in chunks)
            return
        for group in _groups(chunks):
            encodings = self._hf.encode_batch_fast(group, add_special_tokens=False)
            ids = chain.from_iterable(encoding.ids for encoding in encodings)
            yield "".join(group), np.fromiter(ids, "int32")

    @functools.cached_property
    def _look_up(self) -> Callable[[str], np.ndarray] | None:
        make = self._kind.make_look_up
        return make(self._hf) if make and not self.lookahead else None


def _groups(chunks):
    group, num_chars = [], 0
    for chunk in chunks:
        group.append(chunk)
        num_chars += len(chunk)
        if num_chars >= _CHARS_PER_GROUP:
            yield group
            group, num_chars = [], 0
    if group:
        yield group
