"""Where a tokenizer of any kind lets a text be cut, so that its tokens stay the same."""

import dataclasses
import json
import re
import sys

import tokenizers

from neo_keras.text.word_patterns import WORD_PATTERNS

# No token of ours, but an added one, reaches from what is no space into a space, or from a letter
# into these.
_PUNCTUATION = ".,;:!?。、，！？；："
BOUNDARY = re.compile(rf"(?<=\S)(?=[ \n])|(?<=[^\W_])(?=[{_PUNCTUATION}])")
NOWHERE = re.compile("(?!)")
# Of those that others made: before spaces; before line ends; and from letters that NFC leaves alone
# into what the patterns of `WORD_PATTERNS` never join to them. A U+2581 may stand for a space.
_BEFORE_SPACES = r"(?<=[^\s\u2581])(?= )"
_BEFORE_LINE_ENDS = r"(?<=\S)(?=\n)"
_AFTER_LETTERS = (
    rf"(?<=[A-Za-z0-9\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3])(?=[\n{_PUNCTUATION}])"
)
# Of a pre-tokenizer: those that look at single characters only.
_LOCAL = {"Digits", "Punctuation", "Metaspace"}
_WHITESPACE = {"Whitespace", "WhitespaceSplit", "BertPreTokenizer"}


@dataclasses.dataclass(frozen=True)
class Cuts:
    """Where a text may be cut: at matches of `boundary`, which may be `NOWHERE`."""

    boundary: re.Pattern = BOUNDARY
    max_word_chars: int = sys.maxsize  # what has no boundary for so long is cut anywhere
    # Whether the first word of a text, and the first one after an added token, gets a space.
    adds_prefix: bool = False


def flags_of(token: tokenizers.AddedToken) -> list[str]:
    """By which an added token takes, or looks at, what stands around it."""
    return [name for name in ("lstrip", "rstrip", "single_word") if getattr(token, name)]


def parts_of(component) -> list[dict]:
    """What a normalizer, pre-tokenizer or decoder of the library, or None, consists of."""
    return [] if component is None else _flat(json.loads(component.__getstate__()))


def _flat(fields):
    names = ("normalizers", "pretokenizers", "decoders")
    inner = next((fields[name] for name in names if name in fields), None)
    return [fields] if inner is None else [part for each in inner for part in _flat(each)]


def cuts_of(hf: tokenizers.Tokenizer) -> Cuts:
    """Where what any tokenizer makes of a text is what it makes of the parts.

    Of what is not known to be so, a text is not cut at all.
    """
    normalizers, splits = parts_of(hf.normalizer), parts_of(hf.pre_tokenizer)
    added = list(hf.get_added_tokens_decoder().values())
    if any(map(flags_of, added)) or (normalizers and any(token.normalized for token in added)):
        return Cuts(NOWHERE)
    types = {part["type"] for part in normalizers}
    if not types <= {"NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace"}:
        return Cuts(NOWHERE)
    # What becomes a space, or what stands for one, would do so unseen.
    if any(part["pattern"] != {"String": " "} for part in normalizers if part["type"] == "Replace"):
        return Cuts(NOWHERE)
    boundaries = _boundaries(hf, splits, types)
    adds_prefix = (
        "Prepend" in types
        or any(part.get("add_prefix_space") for part in splits)
        or any(part.get("prepend_scheme", "never") != "never" for part in splits)
    )
    boundary = re.compile("|".join(boundaries)) if boundaries else NOWHERE
    return Cuts(boundary, adds_prefix=adds_prefix)


def _boundaries(hf, splits, normalizer_types):
    """The patterns of `Cuts.boundary`, as many as are safe."""
    has_spaces = "Replace" not in normalizer_types  # and no letter in their place
    for part in splits if has_spaces else ():
        if _has_known_words(part):
            return [_BEFORE_SPACES, *[_AFTER_LETTERS] * (normalizer_types <= {"NFC"})]
        if part["type"] in _WHITESPACE:
            return [_BEFORE_SPACES]
        if part["type"] == "Metaspace" and part.get("split", True):
            return [_BEFORE_SPACES, *[_BEFORE_LINE_ENDS] * _never_joins(hf, "\n")]
        if part["type"] not in _LOCAL and not _is_character(part):
            return []
        if part["type"] == "Metaspace":
            break
    if not all(part["type"] in _LOCAL or _is_character(part) for part in splits):
        return []
    both = {" ": _BEFORE_SPACES, "\n": _BEFORE_LINE_ENDS}
    return [boundary for character, boundary in both.items() if _never_joins(hf, character)]


def _is_character(part):
    """Whether a part of a pre-tokenizer cuts at a single character, whatever is around it."""
    return len(part.get("pattern", {}).get("String", "")) == 1


def _has_known_words(part):
    if part["type"] == "ByteLevel":
        return part["use_regex"]
    is_isolated = part.get("behavior") == "Isolated" and not part.get("invert")
    return is_isolated and part.get("pattern", {}).get("Regex") in WORD_PATTERNS.values()


def _never_joins(hf, character):
    """Whether no token of a BPE has a space or a line end after something else.

    Then no merge reaches over a boundary before it, and the merges on both sides do not depend on
    each other.
    """
    model = hf.model
    if not isinstance(model, tokenizers.models.BPE) or model.ignore_merges:
        return False
    if model.continuing_subword_prefix or model.end_of_word_suffix:
        return False
    text = f"a{character}b"
    text = text if hf.normalizer is None else hf.normalizer.normalize_str(text)
    if hf.pre_tokenizer is not None:
        text = "".join(piece for piece, _ in hf.pre_tokenizer.pre_tokenize_str(text))
    spelled = text[text.find("a") + 1 : text.find("b")]
    vocab = hf.get_vocab(with_added_tokens=False)
    if len(spelled) != 1 or spelled not in vocab:
        return False
    joined = re.compile(f"[^{re.escape(spelled)}]{re.escape(spelled)}")
    return not any(map(joined.search, vocab))
