"""Text <-> token ids, by a Hugging Face tokenizer that any other program can load too."""

import codecs
import functools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers

from neo_keras.errors import InputError
from neo_keras.files import write_text
from neo_keras.text import kinds

_END_TOKEN = "<|endoftext|>"  # as GPT-2's
# Large enough to keep every core busy, small enough that the details of a group fit in memory.
_CHARS_PER_GROUP = 2**18


class Tokenizer:
    """Text <-> token ids.

    Args:
        hf_tokenizer: The Hugging Face tokenizer that does the work.

    Attributes:
        kind: One of `kinds.KINDS`: "char", "word", "bpe" or "byte".

    Raises:
        InputError: The tokenizer is of another kind.
    """

    def __init__(self, hf_tokenizer: tokenizers.Tokenizer):
        self.kind = kinds.kind_of(hf_tokenizer)
        self._hf = hf_tokenizer

    @classmethod
    def characters_of(cls, texts: Iterable[str]) -> "Tokenizer":
        """Makes a tokenizer for which every character of a text is a token.

        Args:
            texts: The text, or its parts. Its distinct characters, sorted, get the ids from 0;
                "<unk>" gets the last id.

        Returns:
            The tokenizer.
        """
        occurs = np.zeros(sys.maxunicode + 1, bool)  # several times as fast as a set
        for text in [texts] if isinstance(texts, str) else texts:
            occurs[_code_points(text)] = True
        return cls(kinds.from_tokens("char", map(chr, np.flatnonzero(occurs))))

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Reads the text of a `tokenizer.json`.

        Args:
            text: The JSON.

        Returns:
            The tokenizer.

        Raises:
            InputError: The text is not that of a tokenizer, or of another kind.
        """
        return cls._parse(text.encode(), "the text")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Reads a `tokenizer.json`.

        Args:
            path: The file.

        Returns:
            The tokenizer.

        Raises:
            InputError: The file is missing, unreadable, not a tokenizer, or of another kind.
        """
        try:
            return cls._parse(Path(path).read_bytes(), path)
        except OSError as error:
            raise InputError(
                f"{path}: expected a tokenizer.json, got: {error.strerror}; "
                "check the path, or copy the file that was saved with the model there"
            ) from error

    @classmethod
    def _parse(cls, data, name):
        try:
            hf = tokenizers.Tokenizer.from_buffer(data)
        except Exception as error:  # the library has no exception type of its own
            raise InputError(
                f"{name}: expected a Hugging Face tokenizer.json, got something else ({error}); "
                "pass the tokenizer.json that was saved with the model"
            ) from error
        # A text's own tokens, and all of them.
        hf.post_processor = None
        hf.no_truncation()
        hf.no_padding()
        try:
            return cls(hf)
        except InputError as error:
            raise InputError(f"{name}: {error}; pass another tokenizer.json") from None

    @property
    def vocab_size(self) -> int:
        """How many token ids there are."""
        return self._hf.get_vocab_size()

    @property
    def unk_token_id(self) -> int | None:
        """The id for what the tokenizer does not know; None if it knows everything."""
        is_byte_level = self.kind in ("bpe", "byte")
        return None if is_byte_level else self._hf.token_to_id(self._hf.model.unk_token)

    @property
    def start_token_id(self) -> int:
        """The id to begin from where there is no prompt: a line break, if there is one."""
        token_id = int(self.encode("\n")[-1])
        return 0 if token_id == self.unk_token_id else token_id

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for, in UTF-8; of a byte-level one it may be part of a character."""
        token = self._hf.id_to_token(int(token_id))
        if self.kind in ("bpe", "byte") and kinds.BYTE_OF_LETTER.keys() >= set(token):
            return bytes(kinds.BYTE_OF_LETTER[letter] for letter in token)
        return token.encode()

    @property
    def end_token_id(self) -> int | None:
        """The id of the token that ends a text; None if there is none."""
        return self._hf.token_to_id(_END_TOKEN)

    def with_end_token(self) -> "Tokenizer":
        """The same tokenizer with an end token, which gets the last id unless it has one."""
        hf = tokenizers.Tokenizer.from_str(self.to_json())
        hf.add_special_tokens([_END_TOKEN])
        return Tokenizer(hf)

    def check_vocab_size(self, expected: int, where: str | os.PathLike):
        """Raises `InputError` unless the model that stands beside the tokenizer fits it.

        Args:
            expected: How many tokens the model has.
            where: The file or directory that holds both.
        """
        if self.vocab_size != expected:
            raise InputError(
                f"the tokenizer of {where} has {self.vocab_size} tokens but its model has "
                f"{expected}: put back the tokenizer.json that it was trained with"
            )

    def encode(self, text: str) -> np.ndarray:
        """Encodes a text, on all cores.

        Args:
            text: Any text.

        Returns:
            The token ids: int32 [num_tokens].
        """
        return np.concatenate([np.empty(0, "int32"), *self.encode_parts([_well_formed(text)])])

    def encode_parts(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Encodes a text that may be larger than memory, on all cores.

        Args:
            texts: The parts of the text.

        Yields:
            The next token ids: int32 [num_tokens].
        """
        if self._lookup is not None:
            for text in texts:
                for start in range(0, len(text), _CHARS_PER_GROUP):
                    yield self._lookup(text[start : start + _CHARS_PER_GROUP])
            return
        for group in _groups(kinds.pieces_of(texts)):
            encodings = self._hf.encode_batch_fast(group, add_special_tokens=False)
            yield np.fromiter(chain.from_iterable(e.ids for e in encodings), "int32")

    @functools.cached_property
    def _lookup(self):
        """A function that encodes a text 100 times as fast; None of words, BPE and added tokens."""
        if self._hf.get_added_tokens_decoder():
            return None
        if self.kind == "byte":
            vocab = self._hf.get_vocab()
            ids = [vocab[letter] for letter in kinds.BYTE_OF_LETTER]
            table = np.empty(256, "int32")
            table[list(kinds.BYTE_OF_LETTER.values())] = ids
            return lambda text: table[np.frombuffer(text.encode(), "uint8")]
        if self.kind == "char":
            vocab = self._hf.get_vocab()
            ids = {ord(token): i for token, i in vocab.items() if len(token) == 1}
            table = np.full(max(ids, default=0) + 2, self.unk_token_id, "int32")
            table[list(ids)] = list(ids.values())
            return lambda text: table.take(_code_points(text), mode="clip")
        return None

    def unknown_in(self, text: str) -> list[str]:
        """The characters or words of a text that the tokenizer does not know, sorted."""
        if self.unk_token_id is None:
            return []
        tokens = self._hf.pre_tokenizer.pre_tokenize_str(_well_formed(text))
        return sorted({token for token, _ in tokens if self._hf.token_to_id(token) is None})

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decodes token ids.

        Args:
            token_ids: int [num_tokens]

        Returns:
            The text; bytes that are no character become "\\ufffd".
        """
        return self._hf.decode(np.asarray(token_ids).tolist(), skip_special_tokens=False)

    def stream(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Decodes token ids as they come.

        Args:
            token_ids: They may have no end.

        Yields:
            The text that can now be shown, never empty: the first bytes of a character wait for
            the others. All together is what `decode` returns.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token_id in token_ids:
            if text := decoder.decode(self.token_bytes(token_id)):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def to_json(self) -> str:
        """Returns the text of the `tokenizer.json`."""
        return self._hf.to_str()

    def save(self, path: str | os.PathLike):
        """Writes the `tokenizer.json`: all of it or, if that fails, nothing.

        Args:
            path: The file.
        """
        write_text(path, self.to_json())


def _code_points(text):
    return np.frombuffer(text.encode("utf-32-le"), "uint32")


def _well_formed(text):
    # Bytes of a command line that are not UTF-8 become surrogates, which the library refuses.
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _groups(pieces):
    group, num_chars = [], 0
    for piece in pieces:
        group.append(piece)
        num_chars += len(piece)
        if num_chars >= _CHARS_PER_GROUP:
            yield group
            group, num_chars = [], 0
    if group:
        yield group
