"""Text <-> token ids, by a Hugging Face tokenizer that any other program can load too."""

import codecs
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tokenizers

from neo_keras.atomic_files import write_text
from neo_keras.errors import InputError
from neo_keras.text.chunks import MAX_WORD_CHARS, Chunker
from neo_keras.text.cuts import Cuts, cuts_of
from neo_keras.text.formats import DOCUMENT_END, grouped, well_formed
from neo_keras.text.token_bytes import TokenBytes
from neo_keras.text.tokenizer_config import CONFIG_NAME, TEMPLATE_NAME, TokenizerConfig, read_beside
from neo_keras.text.tokenizer_models import (
    IMPORTED,
    KINDS,
    MAX_VOCAB_SIZE,
    kind_of,
    parse_tokenizer,
    unk_token_of,
)

END_TOKEN = "<|endoftext|>"  # as GPT-2's
# Large enough to keep every core busy, small enough that the details of a group fit in memory.
_CHARS_PER_GROUP = 2**18


class Tokenizer:
    """Text <-> token ids, by a Hugging Face tokenizer.

    Attributes:
        kind: A key of `KINDS`, or `IMPORTED` for any other.
        config: `TokenizerConfig`, what stands in a `tokenizer_config.json` beside it.
        vocab_size: One more than the largest token id.
        unk_token_id: The id for what the tokenizer does not know; None if it knows everything.
        end_token_id, bos_token_id: Of what ends and begins a text; None if there is none.
        end_token_ids: Of all that ends a text; `end_token_id` is the first one.
        added_tokens: By id, what is found in a text before it is cut into words.
        document_end: What to put after each document: the end token or else a blank line.
        adds_prefix: Whether the first token of a text is not that of the same word within one.

    Raises:
        InputError: The tokenizer is one that the library cannot run on every text.
    """

    def __init__(self, hf: tokenizers.Tokenizer, config: TokenizerConfig | None = None):
        self._hf, self.config = hf, config or TokenizerConfig()
        self.kind, self.vocab_size = kind_of(hf), max(hf.get_vocab().values()) + 1
        unk_token = unk_token_of(hf)
        self.unk_token_id = None if unk_token is None else hf.token_to_id(unk_token)
        self.token_bytes = TokenBytes(hf)
        self.bos_token_id = self._id_of("bos_token")
        self.end_token_id, end_token = self._id_of("eos_token"), self.config.eos_token
        if self.end_token_id is None:
            self.end_token_id, end_token = hf.token_to_id(END_TOKEN), END_TOKEN
        ends = [self.end_token_id, *map(hf.token_to_id, self.config.extra_eos_tokens)]
        self.end_token_ids = [token_id for token_id in ends if token_id is not None]
        is_imported = self.kind == IMPORTED
        cuts = cuts_of(hf) if is_imported else Cuts(max_word_chars=MAX_WORD_CHARS)
        self._chunker, self.adds_prefix = Chunker(hf, cuts), cuts.adds_prefix
        self.last_cut = self._chunker.last_cut
        is_whole = self.end_token_id is not None and self._encode(end_token) == [self.end_token_id]
        self.document_end = end_token if is_whole else DOCUMENT_END
        make_look_up = None if is_imported else KINDS[self.kind].make_look_up
        self.added_tokens = hf.get_added_tokens_decoder()
        self._look_up = make_look_up(hf) if make_look_up and not self.added_tokens else None
        for token_id, token in self.added_tokens.items():
            if not is_imported and self.token_bytes(token_id) != token.content.encode():
                raise InputError(
                    f"expected added tokens that decode to themselves, got {token.content!r}, of "
                    "whose letters each stands for a byte; pass a tokenizer.json without it"
                )

    def _id_of(self, name):
        """The id of a token that the configuration names, or None."""
        if (token := getattr(self.config, name)) is None:
            return None
        if (token_id := self._hf.token_to_id(token)) is None:
            raise InputError(
                f"expected a {CONFIG_NAME} whose {name} is a token of the tokenizer.json, got "
                f"{token!r}; correct it, or take the file away"
            )
        return token_id

    @classmethod
    def characters_of(cls, texts: str | Iterable[str]) -> "Tokenizer":
        """Makes a tokenizer of the characters of a text, or of its parts, sorted."""
        return make_tokenizer("char", texts)

    @classmethod
    def from_json(
        cls,
        text: str | bytes,
        name: str | os.PathLike = "the text",
        config_text: str | bytes | None = None,
    ) -> "Tokenizer":
        """Reads the text of a `tokenizer.json`; raises `InputError` if it is none.

        Args:
            name: What errors call it.
            config_text: The text of the `tokenizer_config.json` beside it, if there is one.
        """
        data = text.encode() if isinstance(text, str) else text
        try:
            return cls(parse_tokenizer(data), TokenizerConfig.from_json(config_text, data))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Reads a `tokenizer.json`, and the `tokenizer_config.json` beside it, or `InputError`."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: expected a tokenizer.json, got: {error.strerror}; check the path, or "
                "copy the file that was saved with the model there"
            ) from error
        return cls.from_json(data, path, read_beside(path))

    def to_json(self) -> str:
        return self._hf.to_str()

    def files(self) -> dict[str, str]:
        """The texts of `tokenizer.json` and, only if it says anything, `tokenizer_config.json`."""
        files = {"tokenizer.json": self.to_json(), CONFIG_NAME: self.config.to_json()}
        return {name: text for name, text in files.items() if text is not None}

    def save(self, path: str | os.PathLike):
        """Writes `files`, the first one to a path and the other one beside it."""
        for name in (CONFIG_NAME, TEMPLATE_NAME):  # they would be read as this one's
            Path(path).with_name(name).unlink(missing_ok=True)
        for name, text in self.files().items():
            write_text(Path(path).with_name(name) if name == CONFIG_NAME else Path(path), text)

    @property
    def start_token_id(self) -> int:
        """The id to begin from where there is no prompt: of a line break, unless one is named."""
        if self.bos_token_id is not None:
            return self.bos_token_id
        token_id = int([0, *self.encode("\n")][-1])
        return 0 if token_id == self.unk_token_id else token_id

    def suppressed_ids(self, num_rows: int) -> np.ndarray:
        """What is never to be sampled: the unknown token, and ids that no token has; sorted.

        num_rows: Of the model's embedding, which may be more than there are tokens.
        """
        return np.setdiff1d(np.arange(num_rows), self._known_ids)

    @functools.cached_property
    def _known_ids(self):
        return np.array(sorted(set(self._hf.get_vocab().values()) - {self.unk_token_id}), int)

    def with_end_token(self) -> "Tokenizer":
        """The same tokenizer with an end token, which gets the last id unless it has one."""
        hf = tokenizers.Tokenizer.from_str(self.to_json())
        if self.end_token_id is None or self.config.eos_token is None:
            hf.add_special_tokens([END_TOKEN])
        return Tokenizer(hf, self.config)

    def check_vocab_size(self, expected: int, where: str | os.PathLike):
        """Raises `InputError` unless it has as many tokens as the model; where: of both.

        With weights that others trained, a model may have more: rows that stand for nothing.
        """
        is_padded = self.kind == IMPORTED and self.vocab_size < expected
        if self.vocab_size != expected and not is_padded:
            raise InputError(
                f"the tokenizer of {where} has {self.vocab_size} tokens but its model has "
                f"{expected}: put back the tokenizer.json that it was trained with"
            )

    def encode(self, text: str) -> np.ndarray:
        """Encodes any text, on all cores: int32 [num_tokens]."""
        parts = [token_ids for _, token_ids in self.encode_parts([well_formed(text)])]
        return np.concatenate([np.empty(0, "int32"), *parts])

    def encode_parts(
        self, texts: Iterable[str], before: str = ""
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yields (part, its token ids: int32 [num_tokens]) of a text that is given in parts.

        Args:
            before: The character before the text, where that is the rest of another.
        """
        if self._look_up:
            for text in texts:
                for i in range(0, len(text), _CHARS_PER_GROUP):
                    part = text[i : i + _CHARS_PER_GROUP]
                    yield part, self._look_up(part)
            return
        for group in grouped(self._chunker.chunks(texts), _CHARS_PER_GROUP):
            yield "".join(group), np.fromiter(self._encode_group(group, before), "int32")
            before = group[-1][-1]

    def _encode_group(self, chunks, before):
        """The token ids of chunks that follow each other, as within a text."""
        # With a character before it, a chunk does not begin as a text does.
        befores = [before, *(chunk[-1] for chunk in chunks[:-1])]
        befores = befores if self.adds_prefix else [""] * len(chunks)
        num_before = {before: len(self._encode(before)) for before in befores}
        texts = [before + chunk for before, chunk in zip(befores, chunks)]
        encodings = self._hf.encode_batch_fast(texts, add_special_tokens=False)
        for encoding, before in zip(encodings, befores):
            yield from encoding.ids[num_before[before] :]

    def _encode(self, text):
        return self._hf.encode(text, add_special_tokens=False).ids if text else []

    def count_unknown(self, text: str, token_ids: np.ndarray) -> tuple[int, int]:
        """(how many of its token ids are unknown, their bytes with one for the end of each)."""
        num_unknown = int(np.count_nonzero(token_ids == self.unk_token_id))
        if not num_unknown:
            return 0, 0
        num_bytes = len(text.encode()) - int(self._num_bytes[token_ids].sum())
        return num_unknown, max(num_bytes, num_unknown)  # less where a text is normalized

    @functools.cached_property
    def _num_bytes(self):
        num_bytes = np.array([len(self.token_bytes(i)) for i in range(self.vocab_size)])
        num_bytes[self.unk_token_id] = -1  # its end
        return num_bytes

    def tail(self, text: str, num_tokens: int) -> str:
        """A short end of a text, of which the last `num_tokens` tokens are those of the text."""
        tail, chunks = "", list(self._chunker.chunks([well_formed(text)]))
        while chunks and num_tokens > 0:
            tail = (chunk := chunks.pop()) + tail
            num_tokens -= len([*self._encode_group([chunk], chunks[-1][-1] if chunks else "")])
        # What it begins with may not be what that is within a text: one more chunk makes up for it.
        return "".join(chunks[-1:]) + tail if self.adds_prefix else tail

    def unknown_in(self, text: str) -> list[str]:
        """The characters or words of a text that the tokenizer does not know, sorted."""
        if self.unk_token_id is None or self.unk_token_id not in self.encode(text):
            return []
        text = well_formed(text)
        encoding = self._hf.encode(text, add_special_tokens=False)
        tokens = zip(encoding.ids, encoding.offsets)
        unknown = {text[slice(*span)] for token_id, span in tokens if token_id == self.unk_token_id}
        return sorted(name for name in unknown if self._hf.token_to_id(name) is None)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decodes token ids, int [num_tokens]; bytes that are no character become "\\ufffd"."""
        return self._hf.decode(np.asarray(token_ids).tolist(), skip_special_tokens=False)

    def stream(self, token_ids: Iterable[int]) -> Iterator[str]:
        """Iterates over the text of token ids as they come, in whole characters; none is empty.

        A word keeps the space before it even where it is the first: it continues another text.
        """
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
