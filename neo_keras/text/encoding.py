"""Encodes a text of any size, and knows what its tokens are in characters."""

import dataclasses
import hashlib
import math

import numpy as np

from neo_keras.text.progress import progress
from neo_keras.text.shards import Text
from neo_keras.text.token_cache import (
    COUNTS,
    ConcatTokens,
    TokenFile,
    open_tokens,
    token_file,
    write_tokens,
)
from neo_keras.text.tokenizer import Tokenizer

MIN_KEPT_CHARS = 2**23  # what is shorter is encoded in two or three seconds


@dataclasses.dataclass(frozen=True)
class EncodedText:
    """The tokens of a text.

    Attributes:
        token_ids: Unsigned int [num_tokens], as narrow as the vocabulary allows: an array in
            memory or, of a large text, one that is read from files.
        num_chars: Of the text.
        num_unknown: Tokens that stand for something that the tokenizer does not know.
        unknown_bytes: What they stand for, in UTF-8, with a byte for the end of each.
    """

    token_ids: np.ndarray | ConcatTokens
    num_chars: int
    num_unknown: int
    unknown_bytes: int

    @property
    def tokens_per_char(self) -> float:
        return len(self.token_ids) / self.num_chars

    @property
    def unknown_share(self) -> float:
        """Of the tokens, 0 .. 1."""
        return self.num_unknown / len(self.token_ids)

    def bits_per_char(self, loss: float) -> float:
        """What it takes to write the text down with a model: it compares all tokenizers.

        Args:
            loss: Of the model, in nats per token.

        Returns:
            Bits per character. What is unknown takes the model's prediction of an unknown token,
            and then 8 bits for each of its bytes.
        """
        bits = loss / math.log(2) * len(self.token_ids) + 8 * self.unknown_bytes
        return bits / self.num_chars


def encode_text(tokenizer: Tokenizer, text: Text) -> EncodedText:
    """Encodes a text that may be larger than memory, on all cores.

    The tokens of its larger shards are kept in files, for the next time: see `token_cache`.

    Args:
        tokenizer: The tokenizer.
        text: The text.

    Returns:
        The tokens.

    Raises:
        FailedError: There is no room.
        InputError: The text changed since it was opened.
    """
    encode_span = _SpanEncoder(tokenizer)
    with progress("encoding the text", len(text)) as advance:
        spans = list(_encode_spans(encode_span, text.shard_spans(), advance))
    arrays, counts = zip(*spans) if spans else ([np.empty(0, encode_span.dtype)], [])
    is_small = len(arrays) == 1 and isinstance(arrays[0], np.ndarray)
    token_ids = arrays[0] if is_small else ConcatTokens(arrays)
    return EncodedText(token_ids, *(sum(c[name] for c in counts) for name in COUNTS))


def _encode_spans(encode_span, spans, advance):
    taken = 0  # of a span, by an added token that begins before it
    for span in spans:
        left = span.without(min(taken, span.num_chars))
        taken -= span.num_chars - left.num_chars
        advance(span.num_chars - left.num_chars)
        token_ids, counts = encode_span(left, advance)
        taken += counts["num_chars"] - left.num_chars
        yield token_ids, counts


class _SpanEncoder:
    """Encodes the shards of a text, or finds that this was done before."""

    def __init__(self, tokenizer):
        self.dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        self._encoder = tokenizer.encoder
        self._tokenizer_sha256 = hashlib.sha256(tokenizer.to_json().encode()).hexdigest()
        self._unk_token_id = tokenizer.unk_token_id
        if self._unk_token_id is not None:
            ids = range(tokenizer.vocab_size)
            self._num_bytes = np.array([len(tokenizer.token_bytes(i)) for i in ids])
            self._num_bytes[self._unk_token_id] = -1  # its end

    def __call__(self, span, advance):
        """(array of the token ids, their counts)."""
        if span.num_chars < MIN_KEPT_CHARS:
            token_ids, counts = self._encode(span, advance)
            return np.concatenate([np.empty(0, self.dtype), *token_ids]), counts
        ahead = span.read_ahead(self._encoder.lookahead)
        place = f"{span.start} {span.stop}"
        path = token_file(self._tokenizer_sha256, span.shard.sha256, place, ahead)
        mapped = open_tokens(path)
        if mapped:
            advance(span.num_chars)
        else:
            write_tokens(path, *self._encode(span, advance))
            mapped = TokenFile(path)
        return mapped, mapped.counts

    def _encode(self, span, advance):
        """(parts of the token ids, their counts)."""
        num_chars = num_bytes = num_known_bytes = num_unknown = 0

        def texts():
            for text in span.read():
                yield text
                advance(len(text))

        def pieces():
            nonlocal num_chars, num_bytes
            ahead = span.read_ahead(self._encoder.lookahead)
            for text in self._encoder.pieces_of(texts(), ahead):
                num_chars += len(text)
                num_bytes += len(text.encode())
                yield text

        parts = []
        for token_ids in self._encoder.encode(pieces()):
            parts.append(token_ids.astype(self.dtype))
            if self._unk_token_id is not None:
                num_unknown += int(np.count_nonzero(token_ids == self._unk_token_id))
                num_known_bytes += int(self._num_bytes[token_ids].sum())
        unknown_bytes = 0 if self._unk_token_id is None else num_bytes - num_known_bytes
        return parts, dict(zip(COUNTS, (num_chars, num_unknown, unknown_bytes)))
