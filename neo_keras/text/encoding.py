"""Encodes a text of any size, and knows what its tokens are in characters."""

import dataclasses
import hashlib
import math
from typing import Any

import numpy as np

from neo_keras.text.progress import progress
from neo_keras.text.shards import Text
from neo_keras.text.token_cache import COUNTS, ConcatTokens, read_tokens, token_file, write_tokens
from neo_keras.text.tokenizer import Tokenizer

MIN_KEPT_CHARS = 2**23  # what is shorter is encoded in two or three seconds


@dataclasses.dataclass(frozen=True)
class EncodedText:
    """The tokens of a text."""

    # Unsigned int [num_tokens], as narrow as the vocabulary allows; of a large text, in files.
    token_ids: np.ndarray | ConcatTokens
    num_chars: int
    num_unknown: int  # tokens that stand for something that the tokenizer does not know
    unknown_bytes: int  # what they stand for, in UTF-8, with a byte for the end of each

    @property
    def tokens_per_char(self) -> float:
        return len(self.token_ids) / self.num_chars

    @property
    def unknown_share(self) -> float:
        """Of the tokens, 0 .. 1."""
        return self.num_unknown / len(self.token_ids)

    def bits_per_char(self, loss: float) -> float:
        """Bits per character of a model whose loss is so many nats per token.

        They compare all tokenizers. What is unknown takes the model's prediction of an unknown
        token, and then 8 bits for each of its bytes.
        """
        bits = loss / math.log(2) * len(self.token_ids) + 8 * self.unknown_bytes
        return bits / self.num_chars


@dataclasses.dataclass(frozen=True)
class TokenizedCorpus:
    """What to train on, as token ids: `EncodedText` twice, or `EncodedPairs`."""

    training: Any
    validation: Any
    num_training_rows: int  # windows or pairs in an epoch
    tokens_per_row: float  # how many tokens of each are predicted, on average
    description: str  # how much there is, for people
    sample_prompt: str = ""  # what samples begin with while training: of pairs, a source


def encode_text(tokenizer: Tokenizer, text: Text) -> EncodedText:
    """Encodes a text that may be larger than memory, on all cores.

    The tokens of its larger shards are kept in files, for the next time: see `token_cache`.

    Raises:
        FailedError: There is no room for the files.
        InputError: The text changed since it was opened.
    """
    encoder = _ShardEncoder(tokenizer)
    arrays, counts = [], dict.fromkeys(COUNTS, 0)
    taken = 0  # characters of the next shard, by an added token that begins in this one
    with progress("encoding the text", len(text)) as advance:
        for number, shard in enumerate(text.shards):
            start = min(taken, shard.num_chars)
            advance(start)
            ahead = text.text_after(number, tokenizer.lookahead)
            parts = text.read_shard(shard, start)
            token_ids, shard_counts = encoder(shard, start, parts, ahead, advance)
            taken += shard_counts["num_chars"] - shard.num_chars
            arrays.append(token_ids)
            counts = {name: counts[name] + shard_counts[name] for name in COUNTS}
    if len(arrays) > 1 or any(isinstance(array, np.memmap) for array in arrays):
        return EncodedText(ConcatTokens(arrays), **counts)
    return EncodedText(np.concatenate([np.empty(0, encoder.dtype), *arrays]), **counts)


class _ShardEncoder:
    """Encodes what a text has of a shard, or finds that this was done before."""

    def __init__(self, tokenizer):
        self.dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        self._tokenizer = tokenizer
        self._tokenizer_sha256 = hashlib.sha256(tokenizer.to_json().encode()).hexdigest()
        self._unk_token_id = tokenizer.unk_token_id
        if self._unk_token_id is not None:
            ids = range(tokenizer.vocab_size)
            self._num_bytes = np.array([len(tokenizer.token_bytes(i)) for i in ids])
            self._num_bytes[self._unk_token_id] = -1  # its end

    def __call__(self, shard, start, texts, ahead, advance):
        """(array of the token ids, their counts) of the texts from a character of a shard on."""
        num_chars = shard.num_chars - start
        if num_chars < MIN_KEPT_CHARS:
            parts, counts = self._encode(texts, ahead, advance)
            return np.concatenate([np.empty(0, self.dtype), *parts]), counts
        part = f"{start} {shard.num_chars}"
        path = token_file(self._tokenizer_sha256, shard.digest.hexdigest(), part, ahead)
        try:
            token_ids, counts = read_tokens(path)
        except (OSError, ValueError):  # it is missing or damaged
            write_tokens(path, *self._encode(texts, ahead, advance))
            return read_tokens(path)
        advance(num_chars)
        return token_ids, counts

    def _encode(self, texts, ahead, advance):
        """(parts of the token ids, their counts)."""
        parts, counts = [], dict.fromkeys(COUNTS, 0)
        for text, token_ids in self._tokenizer.encode_parts(texts, ahead):
            advance(len(text))
            parts.append(token_ids.astype(self.dtype))
            counts["num_chars"] += len(text)
            if self._unk_token_id is not None:
                num_known_bytes = int(self._num_bytes[token_ids].sum())
                counts["num_unknown"] += int(np.count_nonzero(token_ids == self._unk_token_id))
                counts["unknown_bytes"] += len(text.encode()) - num_known_bytes
        return parts, counts
