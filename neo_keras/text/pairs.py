"""Pairs of a source and a target, one a line, in `.tsv` or `.jsonl` files."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np

from neo_keras.atomic_files import parse_json
from neo_keras.config import ModelConfig
from neo_keras.errors import InputError, shortened
from neo_keras.text.encoding import TokenizedCorpus, TokenStatistics
from neo_keras.text.formats import normalize_string, read_lines, suffix_of
from neo_keras.text.sources import reading_sources
from neo_keras.text.tokenizer import Tokenizer, make_tokenizer

MAX_VALIDATION_PAIRS = 1000  # kept, to check exports on

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class EncodedPairs(TokenStatistics):
    """Rows of padded token ids, each with the end token; the statistics are of the targets."""

    source_ids: np.ndarray  # int32 [num_pairs, longest source]
    source_lens: np.ndarray  # int32 [num_pairs]
    target_ids: np.ndarray  # int32 [num_pairs, longest target]
    target_lens: np.ndarray  # int32 [num_pairs]
    num_chars: np.ndarray  # int64 [num_pairs], as the other two
    num_unknown: np.ndarray
    unknown_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.source_ids)

    @property
    def num_tokens(self) -> np.ndarray:
        return self.target_lens

    def part(self, rows: slice | np.ndarray) -> "EncodedPairs":
        """Some of the pairs; rows: a slice, or int [num_rows]."""
        return EncodedPairs(*(array[rows] for array in vars(self).values()))


class PairCorpus:
    """As `Corpus`, of at least two pairs; paths: of their files, to say where a pair is."""

    has_pairs, has_examples = True, False

    def __init__(self, pairs: Sequence[Pair], paths: Sequence[str] = ()):
        if len(pairs) < 2:
            raise InputError(f"expected two pairs at least, got {len(pairs)}: give more in --data")
        cut = int(len(pairs) * 0.9)
        self._paths = paths
        self.training, self.validation = pairs[:cut], pairs[cut:]
        self.excerpt = to_json_lines(self.validation[:MAX_VALIDATION_PAIRS])
        self.sha256 = hashlib.sha256(to_json_lines(pairs).encode()).hexdigest()

    def make_tokenizer(self, name: str, vocab_size: int | None = None) -> Tokenizer:
        """As the function of that name, of the training pairs, with an end token."""
        texts = [f"{source}\n{target}\n" for source, target in self.training]
        return make_tokenizer(name, texts, vocab_size).with_end_token()

    def tokenize(self, tokenizer: Tokenizer, model_config: ModelConfig) -> TokenizedCorpus:
        """Encodes both parts; raises `InputError` where a source or a target is too long."""
        settings = tokenizer, model_config.max_seq_len, self._paths
        training = encode_pairs(self.training, *settings)
        validation = encode_pairs(self.validation, *settings)
        num_rows, target_len = len(training), float(training.target_lens.mean())
        what = f"{num_rows:,} pairs to train on, {len(validation):,} to validate on"
        prompts = (self.validation[0][0],)
        return TokenizedCorpus(training, validation, num_rows, target_len, what, prompts)


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: Tokenizer, max_seq_len: int, paths: Sequence[str] = ()
) -> EncodedPairs:
    """Encodes pairs; raises `InputError` where one is too long, and says where in the files."""
    columns = []
    for kind, texts in zip(("source", "target"), zip(*pairs)):
        rows = [np.append(tokenizer.encode(text), tokenizer.end_token_id) for text in texts]
        lens = np.array(list(map(len, rows)), "int32")
        if lens.max() > max_seq_len:
            i = lens.argmax()
            place = next((place for place, pair in _read_files(paths) if pair == pairs[i]), "")
            raise InputError(
                f"{place}a {kind} has {lens[i]} tokens with its end, at most {max_seq_len} fit "
                f"({texts[i][:40]!r}...): shorten it, or give a larger --seq-len"
            )
        token_ids = np.zeros((len(rows), lens.max()), "int32")
        for row_ids, row in zip(token_ids, rows):
            row_ids[: len(row)] = row
        columns += [token_ids, lens]
    of_targets = zip(texts, rows)  # which came last
    counts = [(len(text), *tokenizer.count_unknown(text, row[:-1])) for text, row in of_targets]
    return EncodedPairs(*columns, *np.transpose(counts))


def are_pairs(paths: Sequence[str]) -> bool:
    """Whether files may hold pairs, by their names; raises `InputError` where only some may."""
    pairs = [path for path in paths if suffix_of(path) in PAIR_FORMATS]
    if pairs and (others := sorted(set(paths) - set(pairs))):
        raise InputError(
            f"expected files of pairs or files of plain text, got {pairs[0]} and {others[0]}: "
            "give one kind only, by a pattern such as 'folder/*.tsv'"
        )
    return bool(pairs)


def load_pairs(paths: Sequence[str]) -> list[Pair]:
    """Loads files of pairs; raises `InputError` for an unreadable one, as `parse_pairs` does."""
    with reading_sources():
        return [pair for _, pair in _read_files(paths)]


def parse_pairs(text: str, path: str = "validation.jsonl") -> list[Pair]:
    """Reads the lines of a text as its path says; raises `InputError` where one is no pair."""
    return [pair for _, pair in _parse_lines(text.split("\n"), path)]


def _read_files(paths):
    for path in paths:
        yield from _parse_lines(read_lines(path), path)


def _parse_lines(lines, path):
    """Yields (what an error of it begins with, pair); empty lines are left out."""
    parse, expected = PAIR_FORMATS[suffix_of(path)]
    for number, line in enumerate(lines, 1):
        if line.strip():
            place, pair = f"{path}, line {number}: ", tuple(map(normalize_string, parse(line)))
            if len(pair) != 2 or not all(part.strip() for part in pair):
                raise InputError(
                    f"{place}expected {expected}, got {shortened(line)}; complete the line, take "
                    "it out, or name the field of a text with --column"
                )
            yield place, pair


def to_json_lines(pairs: Sequence[Pair]) -> str:
    """The text of a `.jsonl` file with these pairs, as `parse_pairs` reads it."""
    lines = ({"source": source, "target": target} for source, target in pairs)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _parse_json(line):
    try:
        value = parse_json(line)
        pair = value["source"], value["target"]
    except (ValueError, TypeError, KeyError):
        return ()
    return pair if all(isinstance(part, str) for part in pair) else ()


# Suffix -> a function of a line that returns its fields, and what these should be.
_JSON_PAIRS = _parse_json, '{"source": "...", "target": "..."}'
PAIR_FORMATS = {
    ".tsv": (lambda line: line.split("\t"), "a source, a tab and a target"),
    ".jsonl": _JSON_PAIRS,
    ".ndjson": _JSON_PAIRS,
}
