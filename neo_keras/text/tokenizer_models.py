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
from neo_keras.text.cuts import flags_of, parts_of

MAX_VOCAB_SIZE = 2**20
IMPORTED = "imported"  # the kind of what others made, and no row of `KINDS` is like
UNK_TOKEN = "<unk>"
MIN_COUNT = 2  # what was seen once is too rare to learn
# How the vocabulary of a byte-level BPE spells bytes: printable Latin-1 stands for itself, and the
# other bytes, in order, are letters from U+0100 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
_LETTERS = [*map(chr, _PRINTABLE), *map(chr, range(256, 256 + len(_OTHERS)))]
BYTE_DECODER = dict(zip(_LETTERS, _PRINTABLE + _OTHERS))
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]  # of SentencePiece


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
    """The key of `KINDS` that a tokenizer is of, or `IMPORTED`.

    Raises `InputError` for one that does not give the same ids each time, or none for some texts.
    """
    ids = sorted(hf.get_vocab().values())
    if not ids or len(set(ids)) < len(ids) or not ids[-1] < MAX_VOCAB_SIZE:
        raise InputError(
            f"expected at least one token, with ids of its own from 0 to {MAX_VOCAB_SIZE - 1}, got "
            f"{len(ids)} tokens with others; pass another tokenizer.json"
        )
    if getattr(hf.model, "dropout", None):
        raise InputError(
            f"expected a tokenizer without dropout, got one with {hf.model.dropout}; set that to "
            "null in its tokenizer.json"
        )
    has_plain_ids = ids[-1] == len(ids) - 1 and hf.normalizer is None
    has_flags = any(map(flags_of, hf.get_added_tokens_decoder().values()))
    for name, kind in KINDS.items():
        if has_plain_ids and not has_flags and kind.recognizes(hf):
            return name
    return IMPORTED


def unk_token_of(hf: tokenizers.Tokenizer) -> str | None:
    """The token for what a tokenizer does not know; None if it knows, or leaves out, the rest.

    Raises `InputError` where the library would fail on what is unknown.
    """
    model, vocab = hf.model, hf.get_vocab(with_added_tokens=False)
    has_byte_letters = any(part["type"] == "ByteLevel" for part in parts_of(hf.pre_tokenizer))
    if has_byte_letters and vocab.keys() >= BYTE_DECODER.keys():
        return None
    if getattr(model, "byte_fallback", False) and vocab.keys() >= set(BYTE_TOKENS):
        return None
    if isinstance(model, models.Unigram):
        unk_id = json.loads(model.__getstate__())["unk_id"]
        unk_token = None if unk_id is None else model.id_to_token(unk_id)
    else:
        unk_token = model.unk_token
    if unk_token not in vocab and not (isinstance(model, models.BPE) and unk_token is None):
        raise InputError(
            f"expected a {type(model).__name__} with a token for what is unknown, got one whose "
            f"vocabulary has no {unk_token or 'unk_id'}; pass another tokenizer.json"
        )
    return unk_token


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
    hf = byte_level(models.BPE())
    settings = {"vocab_size": vocab_size, "min_frequency": MIN_COUNT, "show_progress": False}
    trainer = trainers.BpeTrainer(initial_alphabet=list(BYTE_DECODER), **settings)
    hf.train_from_iterator(texts, trainer)
    return hf


def single_bytes() -> tokenizers.Tokenizer:
    """Makes a tokenizer of bytes, whose values are the ids."""
    return byte_level(models.BPE(BYTE_DECODER, []))


def byte_level(model: models.Model) -> tokenizers.Tokenizer:
    """A tokenizer of bytes, and of what a BPE of GPT-2's kind merges them to."""
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

# What the tokens of each kind are, for people.
TOKENS = {name: kind.tokens for name, kind in KINDS.items()} | {
    IMPORTED: "parts of words, by the tokenizer that came with the weights"
}
