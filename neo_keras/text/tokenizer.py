"""Text <-> token ids, by a Hugging Face tokenizer that any other program can load too."""

import codecs
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers

from neo_keras.atomic_files import write_text
from neo_keras.errors import InputError
from neo_keras.text.chunks import MAX_WORD_CHARS, Chunker
from neo_keras.text.formats import DOCUMENT_END
from neo_keras.text.readers import well_formed
from neo_keras.text.tokenizer_models import BYTE_DECODER, KINDS, kind_of, parse_tokenizer

_END_TOKEN = "<|endoftext|>"  # as GPT-2's
# Large enough to keep every core busy, small enough that the details of a group fit in memory.
_CHARS_PER_GROUP = 2**18


class Tokenizer:
    """Text <-> token ids, by a Hugging Face tokenizer.

    Attributes:
        kind: A key of `KINDS`: "char", "word", "bpe" or "byte".
        lookahead: How many characters after a text may belong to an added token that begins in it.

    Raises:
        InputError: The tokenizer is of another kind, or is not lossless.
    """

    def __init__(self, hf_tokenizer: tokenizers.Tokenizer):
        self.kind = kind_of(hf_tokenizer)
        self._hf, self._is_byte_level = hf_tokenizer, KINDS[self.kind].is_byte_level
        self._chunker = Chunker(hf_tokenizer, MAX_WORD_CHARS)
        self.lookahead = self._chunker.lookahead
        for token_id, token in hf_tokenizer.get_added_tokens_decoder().items():
            if self.token_bytes(token_id) != token.content.encode():
                raise InputError(
                    f"expected added tokens that decode to themselves, got {token.content!r}, of "
                    "whose letters each stands for a byte; pass a tokenizer.json without it"
                )

    @classmethod
    def characters_of(cls, texts: str | Iterable[str]) -> "Tokenizer":
        """Makes a tokenizer for which every character of a text, or of its parts, is a token.

        The characters, sorted, get the ids from 0; "<unk>" gets the last id.
        """
        return cls(KINDS["char"].train([texts] if isinstance(texts, str) else texts, None))

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Reads the text of a `tokenizer.json`; raises `InputError` as `load` does."""
        return cls._parse(text.encode(), "the text")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Reads a `tokenizer.json`; raises `InputError` if it is missing or none of `KINDS`."""
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
            return cls(parse_tokenizer(data))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    def to_json(self) -> str:
        """The text of the `tokenizer.json`."""
        return self._hf.to_str()

    def save(self, path: str | os.PathLike):
        """Writes the `tokenizer.json`, all of it or nothing."""
        write_text(path, self.to_json())

    @property
    def vocab_size(self) -> int:
        """How many token ids there are."""
        return self._hf.get_vocab_size()

    @property
    def unk_token_id(self) -> int | None:
        """The id for what the tokenizer does not know; None if it knows everything."""
        return None if self._is_byte_level else self._hf.token_to_id(self._hf.model.unk_token)

    @property
    def start_token_id(self) -> int:
        """The id to begin from where there is no prompt: a line break, if there is one."""
        token_id = int(self.encode("\n")[-1])
        return 0 if token_id == self.unk_token_id else token_id

    @property
    def end_token_id(self) -> int | None:
        """The id of the token that ends a text; None if there is none."""
        return self._hf.token_to_id(_END_TOKEN)

    @property
    def document_end(self) -> str:
        """What to put after each document where a text has many, so that generation can end there.

        It is the end token or, without one, a blank line: any tokenizer can encode that, but it may
        stand within a document, too.
        """
        return DOCUMENT_END if self.end_token_id is None else _END_TOKEN

    def with_end_token(self) -> "Tokenizer":
        """The same tokenizer with an end token, which gets the last id unless it has one."""
        hf = tokenizers.Tokenizer.from_str(self.to_json())
        hf.add_special_tokens([_END_TOKEN])
        return Tokenizer(hf)

    def check_vocab_size(self, expected: int, where: str | os.PathLike):
        """Raises `InputError` unless it has as many tokens as the model; where: of both."""
        if self.vocab_size != expected:
            raise InputError(
                f"the tokenizer of {where} has {self.vocab_size} tokens but its model has "
                f"{expected}: put back the tokenizer.json that it was trained with"
            )

    def encode(self, text: str) -> np.ndarray:
        """Encodes any text, on all cores: int32 [num_tokens]."""
        parts = [token_ids for _, token_ids in self.encode_parts([well_formed(text)])]
        return np.concatenate([np.empty(0, "int32"), *parts])

    def encode_parts(
        self, texts: Iterable[str], ahead: str = ""
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Encodes a text that may be larger than memory, as if it were whole.

        Args:
            texts: The parts of the text.
            ahead: The next `lookahead` characters, if the text is part of another.

        Yields:
            (part, its token ids: int32 [num_tokens]); the last part has the rest of an added token
            that reaches over the end of the text.
        """
        if self._look_up:
            for text in texts:
                for i in range(0, len(text), _CHARS_PER_GROUP):
                    part = text[i : i + _CHARS_PER_GROUP]
                    yield part, self._look_up(part)
            return
        for group in _groups(self._chunker.chunks(texts, ahead)):
            encodings = self._hf.encode_batch_fast(group, add_special_tokens=False)
            ids = chain.from_iterable(encoding.ids for encoding in encodings)
            yield "".join(group), np.fromiter(ids, "int32")

    @functools.cached_property
    def _look_up(self) -> Callable[[str], np.ndarray] | None:
        make = KINDS[self.kind].make_look_up
        return make(self._hf) if make and not self.lookahead else None

    def tail(self, text: str, num_tokens: int) -> str:
        """A short end of a text, of which the last `num_tokens` tokens are those of the text."""
        chunks = list(self._chunker.chunks([well_formed(text)]))
        start = len(chunks)
        while start and num_tokens > 0:
            start -= 1
            num_tokens -= len(self.encode(chunks[start]))
        return "".join(chunks[start:])

    def unknown_in(self, text: str) -> list[str]:
        """The characters or words of a text that the tokenizer does not know, sorted."""
        if self.unk_token_id is None or self.unk_token_id not in self.encode(text):
            return []
        unknown = set()
        for chunk in self._chunker.chunks([well_formed(text)]):
            encoding = self._hf.encode(chunk, add_special_tokens=False)
            for token_id, (start, stop) in zip(encoding.ids, encoding.offsets):
                if token_id == self.unk_token_id:
                    unknown.add(chunk[start:stop])
        return sorted(name for name in unknown if self._hf.token_to_id(name) is None)

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for, in UTF-8; of a byte-level one it may be part of a character."""
        token = self._hf.id_to_token(int(token_id))
        if self._is_byte_level and BYTE_DECODER.keys() >= set(token):
            return bytes(BYTE_DECODER[letter] for letter in token)
        return token.encode()

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decodes token ids, int [num_tokens]; bytes that are no character become "\\ufffd"."""
        return self._hf.decode(np.asarray(token_ids).tolist(), skip_special_tokens=False)

    def stream(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Yields the text of token ids as they come; all together it is what `decode` returns.

        No part is empty: the first bytes of a character wait for the others.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token_id in token_ids:
            if text := decoder.decode(self.token_bytes(token_id)):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text


def _groups(chunks):
    group, num_chars = [], 0
    for chunk in chunks:
        group.append(chunk)
        num_chars += len(chunk)
        if num_chars >= _CHARS_PER_GROUP:
            yield group
            group, num_chars = [], 0
    if group:
        yield group
