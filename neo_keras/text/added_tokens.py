"""Added tokens, which a tokenizer takes out of a text before it looks at the rest."""

import re
from collections.abc import Iterator

import tokenizers

from neo_keras.errors import InputError

_FLAGS = ("lstrip", "rstrip", "single_word")


class AddedTokens:
    """Finds the added tokens in a text, as Hugging Face's library finds them.

    Args:
        hf: A tokenizer; None: one without added tokens.

    Attributes:
        lookahead: How many characters after a place may decide about an added token before it.

    Raises:
        InputError: An added token takes, or looks at, what stands around it.
    """

    def __init__(self, hf: tokenizers.Tokenizer | None = None):
        tokens = list(hf.get_added_tokens_decoder().values()) if hf else []
        for token in tokens:
            for flag in _FLAGS:
                if getattr(token, flag):
                    raise InputError(
                        "expected added tokens that leave the text around them alone, got "
                        f"{token.content!r} with {flag}; set that to false in its tokenizer.json"
                    )
        # Those that are not normalized come first; the others are looked for in what is left.
        self._rounds = [
            _pattern([token.content for token in tokens if token.normalized == is_normalized])
            for is_normalized in (False, True)
        ]
        self.lookahead = 2 * max((len(token.content) for token in tokens), default=0)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the added tokens of a text stand.

        Args:
            text: It begins where no added token is cut.

        Yields:
            (start, stop), in order. What comes within `lookahead` characters of the end may be
            another one when the text goes on.
        """
        first, second = self._rounds
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
