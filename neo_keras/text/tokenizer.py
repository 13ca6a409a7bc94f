"""Text <-> token ids, by a Hugging Face tokenizer that any other program can load too."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from neo_keras.errors import InputError
from neo_keras.files import write_text

_UNK_TOKEN = "<unk>"
_END_TOKEN = "<|endoftext|>"  # as GPT-2's
# Large enough to keep every core busy, small enough that the details of a group fit in memory.
_CHARS_PER_PIECE = 256
_PIECES_PER_GROUP = 1024


class Tokenizer:
    """Text <-> token ids.

    Args:
        hf_tokenizer: The Hugging Face tokenizer that does the work.
    """

    def __init__(self, hf_tokenizer: tokenizers.Tokenizer):
        self._hf = hf_tokenizer

    @classmethod
    def characters_of(cls, text: str) -> "Tokenizer":
        """Makes a tokenizer for which every character of `text` is a token.

        Args:
            text: Its distinct characters, sorted, get the ids from 0; "<unk>" gets the last id.

        Returns:
            The tokenizer. LiteRT-LM can load it too, which needs just this structure.
        """
        vocab = {token: i for i, token in enumerate([*sorted(set(text)), _UNK_TOKEN])}
        hf = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token=_UNK_TOKEN))
        hf.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
        hf.decoder = decoders.Fuse()  # the default decoder puts spaces between tokens
        return cls(hf)

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Reads the text of a `tokenizer.json`.

        Args:
            text: The JSON.

        Returns:
            The tokenizer.

        Raises:
            InputError: The text is not that of a tokenizer.
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
            InputError: The file is missing, unreadable, or not a tokenizer.
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
            return cls(tokenizers.Tokenizer.from_buffer(data))
        except Exception as error:  # the library has no exception type of its own
            raise InputError(
                f"{name}: expected a Hugging Face tokenizer.json, got something else ({error}); "
                "pass the tokenizer.json that was saved with the model"
            ) from error

    @property
    def vocab_size(self) -> int:
        """How many token ids there are."""
        return self._hf.get_vocab_size()

    @property
    def unk_token_id(self) -> int | None:
        """The id for what the tokenizer does not know; None if it knows everything."""
        unk_token = getattr(self._hf.model, "unk_token", None)
        return None if unk_token is None else self._hf.token_to_id(unk_token)

    @property
    def start_token_id(self) -> int:
        """The id to begin from where there is no prompt: a line break, if there is one."""
        token_ids = self._hf.encode("\n", add_special_tokens=False).ids
        return token_ids[-1] if token_ids and token_ids[-1] != self.unk_token_id else 0

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
        """Encodes text, on all cores; warns if characters of it are unknown.

        Args:
            text: Any text.

        Returns:
            The token ids: int32 [num_tokens].
        """
        # Bytes of a command line that are not UTF-8 become surrogates, which the library refuses.
        text = re.sub("[\ud800-\udfff]", "\ufffd", text)
        pieces = self._pieces(text)
        groups = []
        for start in range(0, len(pieces), _PIECES_PER_GROUP):
            groups.append(self._ids(pieces[start : start + _PIECES_PER_GROUP]))
        token_ids = np.concatenate(groups)  # num_tokens
        if self.unk_token_id is not None and self.unk_token_id in token_ids:
            self._warn_of_unknown(text)
        return token_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decodes token ids.

        Args:
            token_ids: int [num_tokens]

        Returns:
            The text.
        """
        return self._hf.decode(np.asarray(token_ids).tolist(), skip_special_tokens=False)

    def stream(self) -> Callable[[int], str]:
        """Starts decoding a text token by token.

        Returns:
            A function of the next token id that returns the text that can now be shown: "" while
            the bytes of a character are incomplete.
        """
        decoder = decoders.DecodeStream(skip_special_tokens=False)

        def step(token_id: int) -> str:
            return decoder.step(self._hf, int(token_id)) or ""

        return step

    def to_json(self) -> str:
        """Returns the text of the `tokenizer.json`."""
        return self._hf.to_str()

    def save(self, path: str | os.PathLike):
        """Writes the `tokenizer.json`: all of it or, if that fails, nothing.

        Args:
            path: The file.
        """
        write_text(path, self.to_json())

    def _pieces(self, text):
        # One encoding of a whole corpus would fill memory, so it is cut where no token can be.
        size = _CHARS_PER_PIECE
        if len(text) <= size:
            return [text]
        characters = self._hf.get_vocab().keys() - {_UNK_TOKEN}
        if self.to_json() == Tokenizer.characters_of("".join(characters)).to_json():
            return [text[i : i + size] for i in range(0, len(text), size)]
        return [text]

    def _ids(self, texts):
        encodings = self._hf.encode_batch_fast(texts, add_special_tokens=False)
        return np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32)

    def _warn_of_unknown(self, text):
        unknown = [c for c in sorted(set(text)) if self.unk_token_id in self._ids([c])]
        names = ", ".join(map(repr, unknown[:10]))
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        unk_token = self._hf.id_to_token(self.unk_token_id)
        warnings.warn(
            f"the model has never seen {names}{more}: replaced by {unk_token}", stacklevel=3
        )
