"""The regular expressions by which tokenizers in use cut a text into words before any merge.

They are written as the library's engine, Oniguruma, takes them.
"""

_CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
_SPACES = r"\s+(?!\S)|\s+"
# A word of OpenAI's later models: a capital letter begins a new one.
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _like_gpt4(numbers):
    return (
        rf"(?i:{_CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{_SPACES}"
    )


def _like_gpt4o(numbers, contractions=""):
    before = r"[^\r\n\p{L}\p{N}]?"
    return (
        rf"{before}{_UPPER}*{_LOWER}+{contractions}|{before}{_UPPER}+{_LOWER}*{contractions}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|{_SPACES}"
    )


# Each one matches all of a text, and nothing that it matches reaches from what is no space into a
# space, or from a letter or digit into a line end or punctuation: `cuts` relies on that.
WORD_PATTERNS = {
    "gpt-2": rf"{_CONTRACTIONS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{_SPACES}",
    "llama-bpe": _like_gpt4(r"\p{N}{1,3}"),
    "qwen2": _like_gpt4(r"\p{N}"),
    "gpt-4o": _like_gpt4o(r"\p{N}{1,3}", f"(?i:{_CONTRACTIONS})?"),
    "tekken": _like_gpt4o(r"\p{N}"),
}
