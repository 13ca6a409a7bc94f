"""What single tokens stand for, whatever the decoder of a tokenizer."""

import re

import numpy as np
import tokenizers

from neo_keras.text.cuts import parts_of
from neo_keras.text.tokenizer_models import BYTE_DECODER

_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """A function of a token id that returns what it stands for within a text, in UTF-8."""

    def __init__(self, hf: tokenizers.Tokenizer):
        types = {part["type"] for part in parts_of(hf.decoder)}
        self._hf = hf
        self._has_byte_letters = "ByteLevel" in types
        self._has_byte_tokens = "ByteFallback" in types
        self._is_plain = types and types <= {"ByteLevel", "Fuse"}

    def __call__(self, token_id: int) -> bytes:
        """May be a part of a character; nothing for an id that no token has."""
        token_id = int(token_id)
        token = self._hf.id_to_token(token_id)
        if token is None:
            return b""
        if self._has_byte_letters and BYTE_DECODER.keys() >= set(token):
            return bytes(BYTE_DECODER[letter] for letter in token)
        if self._has_byte_tokens and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(match[1])
        if self._is_plain:
            return token.encode()
        # At the beginning of a text a token may lose its space: what it adds to a text counts.
        once, twice = (self._hf.decode([token_id] * n, skip_special_tokens=False) for n in (1, 2))
        return twice[len(once) :].encode()

    def count_chars(self, token_ids: np.ndarray) -> np.ndarray:
        """How many characters begin in each token, none in special ones: int64, as token_ids."""
        added = self._hf.get_added_tokens_decoder()
        special = {token_id for token_id, token in added.items() if token.special}
        unique, places = np.unique(token_ids, return_inverse=True)
        # In UTF-8 the further bytes of a character are 10xxxxxx.
        counts = [
            sum(byte & 0xC0 != 0x80 for byte in self(token_id)) * (token_id not in special)
            for token_id in unique.tolist()
        ]
        return np.array(counts, "int64")[places]
