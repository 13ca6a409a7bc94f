"""Text <-> token ids, by a Hugging Face tokenizer that any other program can load too."""

import codecs
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers

from neo_keras.atomic_files import write_text
from neo_keras.errors import InputError
from neo_keras.text.chunks import MAX_WORD_CHARS, Chunker
from neo_keras.text.formats import DOCUMENT_END, grouped, well_formed
from neo_keras.text.tokenizer_models import BYTE_DECODER, KINDS, kind_of, parse_tokenizer

MAX_VOCAB_SIZE = 2**20
_END_TOKEN = "<|endoftext|>"  # as GPT-2's
# Large enough to keep every core busy, small enough that the details of a group fit in memory.
_CHARS_PER_GROUP = 2**18


class Tokenizer:
    """Text <-> token ids, by a Hugging Face tokenizer.

    Attributes:
        kind: A key of `KINDS`.
        vocab_size: How many token ids there are.
        unk_token_id: The id for what the tokenizer does not know; None if it knows everything.
        end_token_id: The id of the token that ends a text; None if there is none.
        document_end: What to put after each document: the end token or else a blank line.

    Raises:
        InputError: The tokenizer is of another kind, or is not lossless.
    """

    def __init__(self, hf: tokenizers.Tokenizer):
        self._hf, self.kind, self.vocab_size = hf, kind_of(hf), hf.get_vocab_size()
        self._is_byte_level = isinstance(hf.model, tokenizers.models.BPE)  # then it knows any text
        self.unk_token_id = None if self._is_byte_level else hf.token_to_id(hf.model.unk_token)
        self.end_token_id = hf.token_to_id(_END_TOKEN)
        self.document_end = DOCUMENT_END if self.end_token_id is None else _END_TOKEN
        self._chunker = Chunker(hf, MAX_WORD_CHARS)
        self.last_cut = self._chunker.last_cut
        make_look_up = KINDS[self.kind].make_look_up
        is_plain = make_look_up and not hf.get_added_tokens_decoder()
        self._look_up = make_look_up(hf) if is_plain else None
        for token_id, token in hf.get_added_tokens_decoder().items():
            if self.token_bytes(token_id) != token.content.encode():
                raise InputError(
                    f"expected added tokens that decode to themselves, got {token.content!r}, of "
                    "whose letters each stands for a byte; pass a tokenizer.json without it"
                )

    @classmethod
    def characters_of(cls, texts: str | Iterable[str]) -> "Tokenizer":
        """Makes a tokenizer of the characters of a text, or of its parts, sorted."""
        return make_tokenizer("char", texts)

    @classmethod
    def from_json(cls, text: str | bytes, name: str | os.PathLike = "the text") -> "Tokenizer":
        """Reads the text of a `tokenizer.json`; raises `InputError` if it is none of `KINDS`."""
        try:
            return cls(parse_tokenizer(text.encode() if isinstance(text, str) else text))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Reads a `tokenizer.json`; raises `InputError` if it is missing or none of `KINDS`."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: expected a tokenizer.json, got: {error.strerror}; check the path, or "
                "copy the file that was saved with the model there"
            ) from error
        return cls.from_json(data, path)

    def to_json(self) -> str:
        return self._hf.to_str()

    def save(self, path: str | os.PathLike):
        """Writes the `tokenizer.json`, all of it or nothing."""
        write_text(path, self.to_json())

    @property
    def start_token_id(self) -> int:
        """The id to begin from where there is no prompt: a line break, if there is one."""
        token_id = int(self.encode("\n")[-1])
        return 0 if token_id == self.unk_token_id else token_id

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

    def encode_parts(self, texts: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (part, its token ids: int32 [num_tokens]) of a text that is given in parts."""
        if self._look_up:
            for text in texts:
                for i in range(0, len(text), _CHARS_PER_GROUP):
                    part = text[i : i + _CHARS_PER_GROUP]
                    yield part, self._look_up(part)
            return
        for group in grouped(self._chunker.chunks(texts), _CHARS_PER_GROUP):
            encodings = self._hf.encode_batch_fast(group, add_special_tokens=False)
            ids = chain.from_iterable(encoding.ids for encoding in encodings)
            yield "".join(group), np.fromiter(ids, "int32")

    def count_unknown(self, text: str, token_ids: np.ndarray) -> tuple[int, int]:
        """(how many of its token ids are unknown, their bytes with one for the end of each)."""
        if self.unk_token_id is None:
            return 0, 0
        num_bytes = len(text.encode()) - int(self._num_bytes[token_ids].sum())
        return int(np.count_nonzero(token_ids == self.unk_token_id)), num_bytes

    @functools.cached_property
    def _num_bytes(self):
        num_bytes = np.array([len(self.token_bytes(i)) for i in range(self.vocab_size)])
        num_bytes[self.unk_token_id] = -1  # its end
        return num_bytes

    def tail(self, text: str, num_tokens: int) -> str:
        """A short end of a text, of which the last `num_tokens` tokens are those of the text."""
        tail, chunks = "", list(self._chunker.chunks([well_formed(text)]))
        while chunks and num_tokens > 0:
            tail = chunks[-1] + tail
            num_tokens -= len(self.encode(chunks.pop()))
        return tail

    def unknown_in(self, text: str) -> list[str]:
        """The characters or words of a text that the tokenizer does not know, sorted."""
        if self.unk_token_id is None or self.unk_token_id not in self.encode(text):
            return []
        text = well_formed(text)
        encoding = self._hf.encode(text, add_special_tokens=False)
        tokens = zip(encoding.ids, encoding.offsets)
        unknown = {text[slice(*span)] for token_id, span in tokens if token_id == self.unk_token_id}
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
        """Iterates over the text of token ids as they come, in whole characters; none is empty."""
        return codecs.iterdecode(map(self.token_bytes, token_ids), "utf-8", "replace")


def make_tokenizer(
    name: str, texts: str | Iterable[str], vocab_size: int | None = None
) -> Tokenizer:
    """Trains or loads a tokenizer.

    Args:
        name: A key of `KINDS`, or the path of a `tokenizer.json`, which is trained already.
        texts: The text to train on, or its parts, which are read more than once.
        vocab_size: Of a kind that has one to choose; None: its default. A small text may give less.

    Raises:
        InputError: There is no such tokenizer, or it cannot have this size.
    """
    check_request(name, vocab_size)
    if name not in KINDS:
        return Tokenizer.load(name)
    texts = [texts] if isinstance(texts, str) else texts
    return Tokenizer(KINDS[name].train(texts, vocab_size or KINDS[name].vocab_size))


def check_request(name: str, vocab_size: int | None):
    """Raises `InputError` where `make_tokenizer` would, before any text is read."""
    if name not in KINDS and not os.path.exists(name):
        raise InputError(
            f"tokenizer must be one of {', '.join(KINDS)} or the path of a tokenizer.json, got "
            f"{name!r}, which is no file"
        )
    if vocab_size is not None:
        sized = {kind: facts for kind, facts in KINDS.items() if facts.vocab_size}
        if name not in sized:
            raise InputError(
                f"vocab_size (--vocab-size) is of {' and '.join(sized)}, which learn so many "
                f"tokens; the tokenizer {name} has a size of its own: leave it out"
            )
        least, tokens = sized[name].smallest
        if not least <= vocab_size <= MAX_VOCAB_SIZE:
            raise InputError(
                f"vocab_size (--vocab-size) of {name} must be from {least} ({tokens}) to "
                f"{MAX_VOCAB_SIZE}, got {vocab_size}"
            )
