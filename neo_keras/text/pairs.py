"""Pairs of a source and a target, one a line, in `.tsv` or `.jsonl` files."""

import json
from collections.abc import Sequence

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError
from neo_keras.text.corpus import PAIRS_SUFFIXES, files_of
from neo_keras.text.readers import normalize_string, read_lines
from neo_keras.text.sources import unreadable

Pair = tuple[str, str]


def are_pairs(paths: Sequence[str]) -> bool:
    """Whether files hold pairs, by their names; raises `InputError` where only some do."""
    pairs = files_of(PAIRS_SUFFIXES, paths)
    if pairs and (others := sorted(set(paths) - set(pairs))):
        raise InputError(
            f"expected files of pairs or files of plain text, got {pairs[0]} and {others[0]}: "
            "give one kind only, by a pattern such as 'folder/*.tsv'"
        )
    return bool(pairs)


def load_pairs(paths: Sequence[str]) -> list[Pair]:
    """Loads the pairs to train on.

    Args:
        paths: Of the files. A line of a `.tsv` file is a source, a tab and a target; of a `.jsonl`
            file, `{"source": "...", "target": "..."}`. Empty lines are left out.

    Returns:
        The pairs, in order.

    Raises:
        InputError: A file that is unreadable, or a line that is no pair.
    """
    try:
        return [pair for path in paths for pair in _parse_lines(read_lines(path), path)]
    except OSError as error:
        raise unreadable(error) from error


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
    return _parse_lines(text.split("\n"), path)


def _parse_lines(lines, path):
    if files_of((".tsv",), [path]):
        parse, expected = _parse_tsv, "a source, a tab and a target"
    else:
        parse, expected = _parse_json, '{"source": "...", "target": "..."}'
    pairs = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            pair = tuple(map(normalize_string, parse(line)))
            if len(pair) != 2 or not all(part.strip() for part in pair):
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
    return line.split("\t")


def _parse_json(line):
    try:
        value = parse_json(line)
        pair = value["source"], value["target"]
    except (ValueError, TypeError, KeyError):
        return ()
    return pair if all(isinstance(part, str) for part in pair) else ()


def _shortened(line):
    return repr(line if len(line) <= 60 else line[:57] + "...")
