"""Pairs of a source and a target, one a line, in `.tsv` or `.jsonl` files."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence

import numpy as np

from neo_keras.atomic_files import parse_json
from neo_keras.config import ModelConfig
from neo_keras.errors import InputError, shortened
from neo_keras.text.encoding import TokenizedCorpus
from neo_keras.text.formats import suffix_of
from neo_keras.text.readers import normalize_string, read_whole
from neo_keras.text.sources import reading_sources
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_training import make_tokenizer

MAX_VALIDATION_PAIRS = 1000  # kept, to check exports on

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class EncodedPairs:
    """Rows of padded token ids. Each source and each target ends with the end token."""

    source_ids: np.ndarray  # int32 [num_pairs, longest source]
    source_lens: np.ndarray  # int32 [num_pairs]
    target_ids: np.ndarray  # int32 [num_pairs, longest target]
    target_lens: np.ndarray  # int32 [num_pairs]
    target_chars: np.ndarray  # int32 [num_pairs], characters of each target
    target_unknowns: np.ndarray  # int32 [num_pairs], tokens that stand for something unknown

    def __len__(self) -> int:
        return len(self.source_ids)

    def part(self, rows: slice | np.ndarray) -> "EncodedPairs":
        """Some of the pairs; rows: a slice, or int [num_rows]."""
        return EncodedPairs(*(array[rows] for array in vars(self).values()))

    @property
    def tokens_per_char(self) -> float:
        """Of the targets, their ends included."""
        return int(self.target_lens.sum()) / int(self.target_chars.sum())

    @property
    def unknown_share(self) -> float:
        """Of the tokens of the targets, 0 .. 1."""
        return int(self.target_unknowns.sum()) / int(self.target_lens.sum())

    def bits_per_char(self, loss: float) -> float:
        """Of the targets; loss: in nats per token."""
        return loss / math.log(2) * self.tokens_per_char


class PairCorpus:
    """As `Corpus`, of pairs; raises `InputError` where these are too few.

    The first nine tenths are trained on, the last tenth is validated on.
    """

    def __init__(self, pairs: Sequence[Pair]):
        cut = int(len(pairs) * 0.9)
        if not cut:
            raise InputError(
                f"expected two pairs at least, got {len(pairs)}: give more with --data"
            )
        self.training, self.validation = pairs[:cut], pairs[cut:]
        self.sha256 = hashlib.sha256(to_json_lines(pairs).encode()).hexdigest()

    def make_tokenizer(self, name: str, vocab_size: int | None = None) -> Tokenizer:
        """As the function of that name, with an end token; it sees the training pairs only."""
        texts = [f"{source}\n{target}\n" for source, target in self.training]
        return make_tokenizer(name, texts, vocab_size).with_end_token()

    def end_token_id(self, tokenizer: Tokenizer) -> int:
        """The id of the token that ends each source and each target."""
        return tokenizer.end_token_id

    def tokenize(self, tokenizer: Tokenizer, model_config: ModelConfig) -> TokenizedCorpus:
        """Encodes both parts; raises `InputError` where a source or a target is too long."""
        training = encode_pairs(self.training, tokenizer, model_config.max_seq_len)
        validation = encode_pairs(self.validation, tokenizer, model_config.max_seq_len)
        return TokenizedCorpus(
            training,
            validation,
            num_training_rows=len(training),
            tokens_per_row=float(training.target_lens.mean()),
            description=f"{len(training):,} pairs to train on, {len(validation):,} to validate on",
            sample_prompt=self.validation[0][0],
        )

    def validation_excerpt(self) -> str:
        """What to keep, to check exports on."""
        return to_json_lines(self.validation[:MAX_VALIDATION_PAIRS])


def encode_pairs(pairs: Sequence[Pair], tokenizer: Tokenizer, max_seq_len: int) -> EncodedPairs:
    """Encodes pairs; raises `InputError` where a source or a target is too long."""
    columns = []
    for kind, texts in zip(("source", "target"), zip(*pairs)):
        rows = [[*tokenizer.encode(text), tokenizer.end_token_id] for text in texts]
        lens = np.array([len(row) for row in rows], "int32")
        if lens.max() > max_seq_len:
            raise InputError(
                f"a {kind} has {lens.max()} tokens with its end, at most {max_seq_len} fit "
                f"({texts[lens.argmax()][:40]!r}...): shorten it, or give a larger --seq-len"
            )
        token_ids = np.zeros((len(rows), lens.max()), "int32")
        for row_ids, row in zip(token_ids, rows):
            row_ids[: len(row)] = row
        columns += [token_ids, lens]
    chars = np.array([len(target) for _, target in pairs], "int32")
    unknowns = np.sum(columns[2] == tokenizer.unk_token_id, axis=1, dtype="int32")
    return EncodedPairs(*columns, chars, unknowns)


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
        return [pair for path in paths for pair in parse_pairs(read_whole(path), path)]


def parse_pairs(text: str, path: str = "validation.jsonl") -> list[Pair]:
    """Reads the lines of a text as its path says: see `PAIR_FORMATS`. Empty lines are left out.

    Raises:
        InputError: A line is no pair.
    """
    parse, expected = PAIR_FORMATS[suffix_of(path)]
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            pair = tuple(map(normalize_string, parse(line)))
            if len(pair) != 2 or not all(part.strip() for part in pair):
                raise InputError(
                    f"{path}, line {number}: expected {expected}, got {shortened(line)}; complete "
                    "the line, take it out, or name the field of a text with --column"
                )
            pairs.append(pair)
    return pairs


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
PAIR_FORMATS = {
    ".tsv": (lambda line: line.split("\t"), "a source, a tab and a target"),
    ".jsonl": (_parse_json, '{"source": "...", "target": "..."}'),
    ".ndjson": (_parse_json, '{"source": "...", "target": "..."}'),
}
