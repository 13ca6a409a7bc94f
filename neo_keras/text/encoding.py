"""Encodes a text of any size into a file, and knows what its tokens are in characters."""

import dataclasses
import math
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from neo_keras.errors import FailedError
from neo_keras.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class EncodedText:
    """The tokens of a text.

    Attributes:
        token_ids: Unsigned int [num_tokens], as narrow as the vocabulary allows, in a file that is
            mapped into memory.
        num_chars: Of the text.
        num_unknown: Tokens that stand for something that the tokenizer does not know.
        unknown_bytes: What they stand for, in UTF-8, with a byte for the end of each.
    """

    token_ids: np.ndarray
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


def encode_text(tokenizer: Tokenizer, texts: Iterable[str], file: BinaryIO) -> EncodedText:
    """Encodes a text that may be larger than memory, on all cores.

    Args:
        tokenizer: The tokenizer.
        texts: The parts of the text; read more than once.
        file: An empty file for the tokens. It is closed; the tokens stay mapped from it.

    Returns:
        The tokens.

    Raises:
        FailedError: There is no room.
    """
    dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
    counts = np.zeros(tokenizer.vocab_size, "int64")
    try:
        with file:
            for token_ids in tokenizer.encode_parts(texts):
                counts += np.bincount(token_ids, minlength=len(counts))
                file.write(token_ids.astype(dtype))
            file.flush()
            # An empty file cannot be mapped.
            token_ids = np.memmap(file, dtype, "r") if counts.any() else np.empty(0, dtype)
    except OSError as error:
        if error.filename:  # of the text, that cannot be read any more
            raise
        raise FailedError(
            f"cannot write the text's token ids to a file ({error.strerror}): make room on the disk"
        ) from None
    num_chars = sum(len(text) for text in texts)
    unk_token_id = tokenizer.unk_token_id
    if unk_token_id is None:
        return EncodedText(token_ids, num_chars, 0, 0)
    num_unknown = int(counts[unk_token_id])
    sizes = np.array([len(tokenizer.token_bytes(i)) for i in range(len(counts))])
    sizes[unk_token_id] = -1  # its end
    num_bytes = sum(len(text.encode()) for text in texts)
    return EncodedText(token_ids, num_chars, num_unknown, num_bytes - int(counts @ sizes))
