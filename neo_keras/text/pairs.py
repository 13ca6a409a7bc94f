"""Pairs of a source and a target, one a line, in `.tsv` or `.jsonl` files."""

import glob
import json
from collections.abc import Sequence

from neo_keras.errors import InputError
from neo_keras.text.corpus import load_corpus

SUFFIXES = (".tsv", ".jsonl")

Pair = tuple[str, str]


def are_pairs(sources: Sequence[str]) -> bool:
    """Whether all of them are names of files of pairs."""
    return bool(sources) and all(source.endswith(SUFFIXES) for source in sources)


def load_pairs(sources: Sequence[str]) -> list[Pair]:
    """Loads the pairs to train on.

    Args:
        sources: Files, or globs. A line of a `.tsv` file is a source, a tab and a target; of a
            `.jsonl` file, `{"source": "...", "target": "..."}`. Empty lines are left out.

    Returns:
        The pairs, in order.

    Raises:
        InputError: A file that is missing or unreadable, or a line that is no pair.
    """
    pairs = []
    for source in sources:
        for path in sorted(glob.glob(source, recursive=True)) or [source]:
            pairs += parse_pairs(load_corpus([path]), path)
    return pairs


def parse_pairs(text: str, path: str) -> list[Pair]:
    """Reads the text of one file.

    Args:
        text: What it holds.
        path: Its name, which says how to read it.

    Returns:
        The pairs.

    Raises:
        InputError: A line that is no pair.
    """
    if path.endswith(".tsv"):
        parse, expected = _parse_tsv, "a source, a tab and a target"
    else:
        parse, expected = _parse_json, '{"source": "...", "target": "..."}'
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            pair = parse(line)
            if pair is None or not all(part.strip() for part in pair):
                raise InputError(
                    f"{path}, line {number}: expected {expected}, got {_shortened(line)}; complete "
                    "the line or take it out"
                )
            pairs.append(pair)
    return pairs


def to_json_lines(pairs: Sequence[Pair]) -> str:
    """The text of a `.jsonl` file with these pairs."""
    lines = ({"source": source, "target": target} for source, target in pairs)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _parse_tsv(line):
    parts = line.split("\t")
    return tuple(parts) if len(parts) == 2 else None


def _parse_json(line):
    try:
        value = json.loads(line)
        pair = value["source"], value["target"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return pair if all(isinstance(part, str) for part in pair) else None


def _shortened(line):
    return repr(line if len(line) <= 60 else line[:57] + "...")
