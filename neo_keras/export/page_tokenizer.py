"""What of a tokenizer the web page can do: `page/components.js` and `page/tokenizer.js` have it."""

import json
import re

from neo_keras.errors import InputError

# The types of the components, as the tables of the page have them.
COMPONENTS = {
    "model": {"WordLevel", "BPE"},
    "normalizer": {"NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace"},
    "pre_tokenizer": {"Digits", "Split", "ByteLevel", "Metaspace"},
    "decoder": {"ByteLevel", "ByteFallback", "Fuse", "Strip", "Replace", "Metaspace"},
}
BEHAVIORS = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext"}
# Of a model of the page, all that must be off.
_MODEL_OPTIONS = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")

# What a browser's regular expressions have in common with Oniguruma's, once `regexOf` of the page
# translated them: no possessive or atomic groups, no classes within classes, no anchors.
_ESCAPE = r"\\(?:[pP]\{(?:[LMNPSZ][a-z]?|Han|Hiragana|Katakana|Hangul|Latin)\}|[rntvfsSd]|[^\w\s])"
_IN_CLASS = rf"{_ESCAPE}|[^\[\]\\^&]|&(?!&)"
_CLASS = rf"\[\^?(?:{_IN_CLASS})(?:{_IN_CLASS}|\^)*\]"
_OPEN = r"\((?:\?(?:i:|[:=!]|<[=!])|(?!\?))|\|"
_QUANTIFIER = r"(?:(?:[*+?]\??|\{\d+(?:,\d*)?\})(?![*+?{]))?"
_ATOM = rf"(?:{_ESCAPE}|{_CLASS}|\)|[^\\\[\]{{}}()|*+?^$])"
_REGEX = re.compile(rf"(?:{_OPEN}|{_ATOM}{_QUANTIFIER})*")
_RANGE_WITHOUT_CASE = re.compile(r"\(\?i:[^)]*\[[^\]]*-")


def check_tokenizer(tokenizer):
    """Raises `InputError` where a page would not give the ids and texts that `tokenizer` gives."""
    if unknown := next(_unknown_parts(json.loads(tokenizer.to_json())), None):
        raise InputError(
            f"a web page cannot have this tokenizer: it has {unknown}, which page/tokenizer.js "
            "lacks: leave web out of --formats"
        )


def _unknown_parts(fields):
    """Yields what the page lacks, for people."""
    for token in fields["added_tokens"]:
        for flag in ("lstrip", "rstrip", "single_word"):
            if token[flag]:
                yield f"the added token {token['content']!r} with {flag}"
    for kind, types in COMPONENTS.items():
        for part in _parts(fields[kind]):
            if part["type"] not in types:
                yield f"the {kind} {part['type']}"
            elif unknown := _unknown_option(part):
                yield f"the {kind} {part['type']} with {unknown}"
    if not list(_parts(fields["decoder"])):
        yield "no decoder"


def _parts(component):
    """The parts of a component of tokenizer.json, which may be null or a Sequence."""
    if component is None:
        return
    names = ("normalizers", "pretokenizers", "decoders")
    inner = next((component[name] for name in names if name in component), None)
    if inner is None:
        yield component
    else:
        for part in inner:
            yield from _parts(part)


def _unknown_option(part):
    """What of a part's options the page lacks, or None."""
    if part["type"] in ("WordLevel", "BPE"):
        return next((name for name in _MODEL_OPTIONS if part.get(name)), None)
    if part.get("invert"):
        return "invert"
    if part.get("behavior", "Isolated") not in BEHAVIORS and part["type"] == "Split":
        return f"the behavior {part['behavior']}"
    if part["type"] == "Strip" and (part["content"] != " " or part["stop"]):
        return "other than a space at the beginning"
    regex = part.get("pattern", {}).get("Regex", "")
    is_known = _REGEX.fullmatch(regex) and not _RANGE_WITHOUT_CASE.search(regex)
    return None if is_known else f"the pattern {regex}"
