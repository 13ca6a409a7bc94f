"""The four kinds of tokenizers, in terms of Hugging Face's library, and where a text may be cut."""

import re
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from neo_keras.errors import InputError
from neo_keras.text.added_tokens import AddedTokens

UNK_TOKEN = "<unk>"
MIN_COUNT = 2  # what was seen once is too rare to learn

# What a token is, where each is looked up as it is.
PATTERNS = {
    "char": r"[\s\S]",
    "word": r"[\p{L}\p{M}\p{N}_]+|[\s\S]",  # a word, or any other character by itself
}
KINDS = ("char", "word", "bpe", "byte")


def _byte_of_letter():
    # Printable Latin-1 stands for itself; the other bytes, in order, are letters from U+0100 on.
    letters, others = {}, iter(range(256, 512))
    for byte in range(256):
        visible = 32 < byte < 127 or 160 < byte != 173
        letters[chr(byte if visible else next(others))] = byte
    return letters


BYTE_DECODER = _byte_of_letter()  # how the vocabulary of a byte-level BPE spells the bytes

MIN_PIECE_CHARS = 1024
MAX_PIECE_CHARS = 16 * MIN_PIECE_CHARS
MAX_WORD_CHARS = 128 * MIN_PIECE_CHARS  # BPE takes some 100 bytes of memory for each byte of one
# No token, but an added one, reaches from what is no space into a space, or from a letter into
# these.
_BOUNDARY = re.compile(r"(?<=\S)(?=[ \n])|(?<=[^\W_])(?=[.,;:!?。、，！？；：])")
_NO_ADDED_TOKENS = AddedTokens()


def from_tokens(kind: str, tokens: Iterable[str]) -> tokenizers.Tokenizer:
    """Makes a tokenizer of the kind "char" or "word".

    Args:
        kind: A key of `PATTERNS`.
        tokens: They get the ids from 0; "<unk>" gets the last id.

    Returns:
        The tokenizer. LiteRT-LM can load it too, which needs just this structure.
    """
    vocab = {token: i for i, token in enumerate([*tokens, UNK_TOKEN])}
    hf = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token=UNK_TOKEN))
    hf.pre_tokenizer = _split(kind)
    hf.decoder = decoders.Fuse()  # the default decoder puts spaces between tokens
    return hf


def _split(kind):
    return pre_tokenizers.Split(tokenizers.Regex(PATTERNS[kind]), "isolated")


def train_word_level(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Makes a tokenizer of the words and other characters that are frequent in `texts`."""
    hf = from_tokens("word", [])
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size - 1, min_frequency=MIN_COUNT, show_progress=False
    )
    hf.train_from_iterator(texts, trainer)
    vocab = hf.get_vocab()
    return from_tokens("word", sorted(vocab, key=vocab.get))


def train_bpe(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Makes a byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) that suits `texts`."""
    hf = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_COUNT,
        initial_alphabet=list(BYTE_DECODER),
        show_progress=False,
    )
    hf.train_from_iterator(texts, trainer)
    return hf


def single_bytes() -> tokenizers.Tokenizer:
    """Makes a tokenizer for which every byte is a token: its value is its id."""
    return _byte_level(models.BPE(BYTE_DECODER, []))


def _byte_level(model):
    hf = tokenizers.Tokenizer(model)
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    return hf


def kind_of(hf: tokenizers.Tokenizer) -> str:
    """Recognizes a tokenizer.

    Args:
        hf: Any tokenizer.

    Returns:
        One of `KINDS`.

    Raises:
        InputError: It is of another kind: it may change a text for good, or need it whole.
    """
    model, split, decoder = hf.model, hf.pre_tokenizer, hf.decoder
    if sorted(hf.get_vocab().values()) != list(range(hf.get_vocab_size())):
        raise InputError(
            f"expected {hf.get_vocab_size()} tokens with the ids 0 to {hf.get_vocab_size() - 1}, "
            "got others; pass another tokenizer.json"
        )
    vocab = hf.get_vocab(with_added_tokens=False)
    if hf.normalizer is None:
        if isinstance(model, models.WordLevel) and isinstance(decoder, decoders.Fuse):
            for kind in PATTERNS:
                same_split = split.__getstate__() == _split(kind).__getstate__()
                if same_split and model.unk_token in vocab:
                    return kind
        if isinstance(model, models.BPE) and isinstance(decoder, decoders.ByteLevel):
            if (
                _splits_like_gpt2(split)
                and _is_plain(model)
                and vocab.keys() >= BYTE_DECODER.keys()
            ):
                return "byte" if hf.get_vocab_size() == 256 else "bpe"
    raise InputError(
        "expected a tokenizer of characters, words, bytes or byte-level BPE as GPT-2's, got a "
        f"{type(model).__name__} of another kind; pass another tokenizer.json"
    )


def _splits_like_gpt2(split):
    is_byte_level = isinstance(split, pre_tokenizers.ByteLevel)
    return is_byte_level and split.use_regex and not split.add_prefix_space


def _is_plain(bpe):
    return not (bpe.dropout or bpe.continuing_subword_prefix or bpe.end_of_word_suffix)


def pieces_of(
    texts: Iterable[str],
    max_word_chars: int = MAX_PIECE_CHARS,
    added_tokens: AddedTokens = _NO_ADDED_TOKENS,
    ahead: str = "",
) -> Iterator[str]:
    """Cuts a text of any size where no token is cut, whatever the kind of tokenizer.

    Args:
        texts: The parts of the text.
        max_word_chars: Only what has no space or punctuation for so long is cut anywhere.
        added_tokens: Of the tokenizer; they are never cut.
        ahead: What comes after the text: the last piece takes of it what an added token does.

    Yields:
        Pieces of some `MIN_PIECE_CHARS`.
    """
    rest = ""
    for text in texts:
        rest += text
        start = 0
        for stop in _cuts(rest, max_word_chars, added_tokens):
            yield rest[start:stop]
            start = stop
        rest = rest[start:]
    if rest:
        spans = added_tokens.spans(rest + ahead)
        reached = (stop for start, stop in spans if start < len(rest) < stop)
        yield (rest + ahead)[: next(reached, len(rest))]


def _cuts(text, max_word_chars, added_tokens):
    """Yields where to cut a text of which more may come."""
    spans, (token_start, token_stop) = added_tokens.spans(text), (0, 0)
    lookahead, place = added_tokens.lookahead, 0
    while len(text) - place > MAX_PIECE_CHARS + lookahead:
        last = min(place + max_word_chars, len(text) - lookahead)
        boundary = _BOUNDARY.search(text, place + MIN_PIECE_CHARS, last)
        if not boundary and last < place + max_word_chars:
            return
        place = boundary.start() if boundary else last
        while token_stop <= place:
            token_start, token_stop = next(spans, (len(text), len(text) + 1))
        if token_start < place:
            place = token_stop
        yield place


def last_boundary(text: str) -> int | None:
    """The last place in a text where no token but an added one is cut, whatever the tokenizer.

    Args:
        text: The text.

    Returns:
        How many characters come before it; None if there is none near the end.
    """
    tail = max(len(text) - MAX_WORD_CHARS, 0)
    return max((match.start() for match in _BOUNDARY.finditer(text, tail)), default=None)
