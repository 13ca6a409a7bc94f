"""The kinds of tokenizers, in terms of Hugging Face's library: a new one is a row of `KINDS`."""

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterable

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from neo_keras.errors import InputError
from neo_keras.native_logs import native_log_hidden
from neo_keras.text.chunks import cut_long_words, sample

UNK_TOKEN = "<unk>"
MIN_COUNT = 2  # what was seen once is too rare to learn
# How the vocabulary of a byte-level BPE spells bytes: printable Latin-1 stands for itself, and the
# other bytes, in order, are letters from U+0100 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_LETTERS = [*map(chr, _PRINTABLE), *map(chr, range(256, 256 + len(_OTHERS)))]
BYTE_DECODER = dict(zip(_LETTERS, _PRINTABLE + _OTHERS))


@dataclasses.dataclass(frozen=True)
class TokenizerKind:
    tokens: str  # what they are, for people
    # Of the parts of a text, which are read more than once, and the size of the vocabulary.
    train: Callable[[Iterable[str], int], tokenizers.Tokenizer]
    recognizes: Callable[[tokenizers.Tokenizer], bool]
    # Of a tokenizer without added tokens: a function that encodes a text 100 times as fast.
    make_look_up: Callable | None = None
    vocab_size: int | None = None  # by default; None: it is not to be chosen
    smallest: tuple[int, str] | None = None  # the least size, and what tokens it has


def parse_tokenizer(data: bytes) -> tokenizers.Tokenizer:
    """Reads a `tokenizer.json` of any kind; raises `InputError` where it is none."""
    with native_log_hidden():  # where the library gives up, it shows its stack
        try:
            hf = tokenizers.Tokenizer.from_buffer(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # it has no type of its own, and giving up is no Exception
            raise InputError(
                f"expected a Hugging Face tokenizer.json, got something else ({error}); pass the "
                "tokenizer.json that was saved with the model"
            ) from None
    # A text's own tokens, and all of them.
    hf.post_processor = None
    hf.no_truncation()
    hf.no_padding()
    for token in json.loads(data).get("added_tokens", []):
        token_id = hf.token_to_id(token["content"])
        if token["id"] != token_id:  # the library counts added tokens itself
            raise InputError(
                "expected added tokens that go on counting where the others end, got "
                f"{token['content']!r} with the id {token['id']}, not {token_id}; correct it, or "
                "pass another tokenizer.json"
            )
    return hf


def kind_of(hf: tokenizers.Tokenizer) -> str:
    """The key of `KINDS` that a tokenizer is of; raises `InputError` for any other."""
    size = hf.get_vocab_size()
    if sorted(hf.get_vocab().values()) != list(range(size)):
        raise InputError(
            f"expected {size} tokens with the ids 0 to {size - 1}, got others; pass another "
            "tokenizer.json"
        )
    for name, kind in KINDS.items():
        if hf.normalizer is None and kind.recognizes(hf):
            return name
    raise InputError(
        "expected a tokenizer of characters, words, bytes or byte-level BPE as GPT-2's, got a "
        f"{type(hf.model).__name__} of another kind; pass another tokenizer.json"
    )


# Characters and words: each token is looked up as it is.
CHARACTER = r"[\s\S]"
WORD = r"[\p{L}\p{M}\p{N}_]+|[\s\S]"  # a word, or any other character by itself


def from_tokens(pattern: str, tokens: Iterable[str]) -> tokenizers.Tokenizer:
    """Looks up what a pattern matches; "<unk>" comes last. LiteRT-LM needs this structure."""
    vocab = {token: i for i, token in enumerate([*tokens, UNK_TOKEN])}
    hf = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token=UNK_TOKEN))
    hf.pre_tokenizer = _split(pattern)
    hf.decoder = decoders.Fuse()  # the default decoder puts spaces between tokens
    return hf


def _split(pattern):
    return pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")


def _is_word_level(hf, pattern):
    return (
        isinstance(hf.model, models.WordLevel)
        and isinstance(hf.decoder, decoders.Fuse)
        and hf.pre_tokenizer.__getstate__() == _split(pattern).__getstate__()
        and hf.model.unk_token in hf.get_vocab(with_added_tokens=False)
    )


def _code_points(text):
    return np.frombuffer(text.encode("utf-32-le"), "uint32")


def _train_characters(texts, vocab_size):
    occurs = np.zeros(sys.maxunicode + 1, bool)  # several times as fast as a set
    for text in texts:
        occurs[_code_points(text)] = True
    return from_tokens(CHARACTER, map(chr, np.flatnonzero(occurs)))


def _look_up_characters(hf):
    vocab = hf.get_vocab()
    ids = {ord(token): i for token, i in vocab.items() if len(token) == 1}
    table = np.full(max(ids, default=0) + 2, vocab[hf.model.unk_token], "int32")
    table[list(ids)] = list(ids.values())
    return lambda text: table.take(_code_points(text), mode="clip")


def train_word_level(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Makes a tokenizer of the words and other characters that are frequent."""
    hf = from_tokens(WORD, [])
    settings = {"vocab_size": vocab_size - 1, "min_frequency": MIN_COUNT, "show_progress": False}
    hf.train_from_iterator(texts, trainers.WordLevelTrainer(**settings))
    vocab = hf.get_vocab()
    return from_tokens(WORD, sorted(vocab, key=vocab.get))


def _train_words(texts, vocab_size):
    hf = train_word_level(sample(texts), vocab_size)
    words = (token for token in hf.get_vocab() if re.search(r"[^\W_]", token))
    if hf.get_vocab_size() < vocab_size and set(words) <= {UNK_TOKEN} and any(texts):
        raise InputError(
            "the tokenizer word needs a text in which words stand between spaces and come again, "
            "got one where no word comes twice: use char or bpe (--tokenizer)"
        )
    return hf


def train_bpe(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Makes a byte-level BPE (Sennrich et al. 2016; Radford et al. 2019)."""
    hf = _byte_level(models.BPE())
    settings = {"vocab_size": vocab_size, "min_frequency": MIN_COUNT, "show_progress": False}
    trainer = trainers.BpeTrainer(initial_alphabet=list(BYTE_DECODER), **settings)
    hf.train_from_iterator(texts, trainer)
    return hf


def single_bytes() -> tokenizers.Tokenizer:
    """Makes a tokenizer of bytes, whose values are the ids."""
    return _byte_level(models.BPE(BYTE_DECODER, []))


def _byte_level(model):
    hf = tokenizers.Tokenizer(model)
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    return hf


def _is_byte_level(hf):
    model, split = hf.model, hf.pre_tokenizer
    return (
        isinstance(model, models.BPE)
        and not (model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix)
        and isinstance(split, pre_tokenizers.ByteLevel)
        and split.use_regex
        and not split.add_prefix_space
        and isinstance(hf.decoder, decoders.ByteLevel)
        and hf.get_vocab(with_added_tokens=False).keys() >= BYTE_DECODER.keys()
    )


def _look_up_bytes(hf):
    vocab, table = hf.get_vocab(), np.empty(256, "int32")
    table[list(BYTE_DECODER.values())] = [vocab[letter] for letter in BYTE_DECODER]
    return lambda text: table[np.frombuffer(text.encode(), "uint8")]


KINDS = {
    "char": TokenizerKind(
        tokens="characters",
        train=_train_characters,
        recognizes=lambda hf: _is_word_level(hf, CHARACTER),
        make_look_up=_look_up_characters,
    ),
    "word": TokenizerKind(
        tokens="words, and single other characters; what is rare is unknown, and counts 8 bits a "
        "byte",
        train=_train_words,
        recognizes=lambda hf: _is_word_level(hf, WORD),
        vocab_size=8192,
        smallest=(2, "a word and the unknown token"),
    ),
    "bpe": TokenizerKind(
        tokens="parts of words, by byte-level BPE; any text can be written with them",
        train=lambda texts, vocab_size: train_bpe(cut_long_words(sample(texts)), vocab_size),
        recognizes=lambda hf: _is_byte_level(hf) and hf.get_vocab_size() != 256,
        vocab_size=1024,
        smallest=(256, "one token for each byte"),
    ),
    "byte": TokenizerKind(
        tokens="bytes; any text can be written with them",
        train=lambda texts, vocab_size: single_bytes(),
        recognizes=lambda hf: _is_byte_level(hf) and hf.get_vocab_size() == 256,
        make_look_up=_look_up_bytes,
    ),
}
