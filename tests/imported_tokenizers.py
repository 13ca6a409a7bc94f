"""Tokenizers of the structures that pretrained models have, small, and texts that are hard."""

import json
import random

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from neo_keras.text.tokenizer_models import BYTE_DECODER, BYTE_TOKENS
from neo_keras.text.word_patterns import WORD_PATTERNS

PARTS = [
    *"ab.xy<>\n。日😀½\x85\u3000_7ſK",
    *("the", " the", " a", "a a", "日本語", "e\u0301", "é", "क़", "'ll", "'RE", "'ſ"),
    *(" 'tis", "don't"),
    *("1234", " 12", "x_1", "\r\n", "\n\n", "  ", "   ", " \n", "?!", "...\n", "/\n", "\t"),
    *("User:",),
    *("\u2581", "\u2581 ", "Ġthe", "\ufb01", "ﷺ", "⑴", "ǅ", "iPhone", "McDonald"),
]  # fmt: skip
SPECIAL = ["<s>", "</s>", "<|im_start|>", "a. b"]


def hard_text(seed: int, num_chars: int, special: bool = True) -> str:
    """A text with all that tokenizers treat in ways of their own, at random places."""
    parts = random.Random(seed).choices([*PARTS, *SPECIAL * special], k=num_chars)
    return "".join(parts)[:num_chars]


def _byte_level(pre_tokenizer, normalizer=None, **model):
    hf = tokenizers.Tokenizer(models.BPE(**model))
    hf.normalizer, hf.pre_tokenizer = normalizer, pre_tokenizer
    hf.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=list(BYTE_DECODER), show_progress=False
    )
    hf.train_from_iterator([hard_text(1, 9000, special=False)], trainer)
    hf.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    return hf


def _words_then_bytes(name, **options):
    words = pre_tokenizers.Split(Regex(WORD_PATTERNS[name]), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _byte_level(pre_tokenizers.Sequence([words, letters]), **options)


def sentence_piece(normalizer=None, pre_tokenizer=None, decoder=None, has_bytes=True, **model):
    """A BPE that spells a space as U+2581 and, if need be, other characters in bytes."""
    hf = tokenizers.Tokenizer(models.BPE())
    hf.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=200, show_progress=False, limit_alphabet=40)
    hf.train_from_iterator([hard_text(1, 9000, special=False)], trainer)
    fields = json.loads(hf.to_str())
    tokens = [*["<unk>", "<s>", "</s>"], *BYTE_TOKENS * has_bytes, *fields["model"]["vocab"]]
    fields["model"] |= {"vocab": {token: i for i, token in enumerate(dict.fromkeys(tokens))}}
    fields["model"] |= {"unk_token": "<unk>", "byte_fallback": has_bytes, "fuse_unk": True, **model}
    hf = tokenizers.Tokenizer.from_str(json.dumps(fields))
    hf.normalizer, hf.pre_tokenizer, hf.decoder = normalizer, pre_tokenizer, decoder
    names = ["<s>", "</s>", "<unk>", "<|im_start|>"]
    hf.add_special_tokens([AddedToken(name, normalized=False) for name in names])
    return hf


def llama2():
    return sentence_piece(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=decoders.Sequence([
            decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]),
    )  # fmt: skip


def gemma():
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return sentence_piece(
        normalizers.Replace(" ", "▁"),
        pre_tokenizers.Split(" ", "merged_with_previous"),
        decoders.Sequence(steps),
    )


def metaspace(prepend_scheme="first", split=False, **options):
    steps = [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=prepend_scheme)]
    return sentence_piece(
        None,
        pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=split),
        decoders.Sequence(steps),
        **options,
    )


def unigram():
    hf = tokenizers.Tokenizer(models.Unigram())
    hf.pre_tokenizer, hf.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    hf.train_from_iterator([hard_text(1, 9000, special=False)], trainer)
    return hf


def word_piece():
    hf = tokenizers.Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    hf.normalizer = normalizers.BertNormalizer()
    hf.pre_tokenizer, hf.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["[UNK]"], show_progress=False
    )
    hf.train_from_iterator([hard_text(1, 9000, special=False)], trainer)
    return hf


def roberta():
    hf = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    hf.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return hf


def flagged(flag):
    hf = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    hf.add_tokens([AddedToken("User", **{flag: True})])
    return hf


def digits_then_bytes(**options):
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, **options)
    return _byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(True), split]))


def with_underscores():
    hf = llama2()
    steps = [normalizers.Prepend("▁"), normalizers.Replace("_", "▁"), normalizers.Replace(" ", "▁")]
    hf.normalizer = normalizers.Sequence(steps)
    return hf


def after(part):
    """GPT-2's words of what another pre-tokenizer makes."""
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _byte_level(pre_tokenizers.Sequence([part, words]))


# What a page can do, and the rest.
MAKE_IMPORTED = {
    "smollm": digits_then_bytes,
    "digits": lambda: _byte_level(
        pre_tokenizers.Sequence([
            pre_tokenizers.Digits(False), pre_tokenizers.ByteLevel(add_prefix_space=False),
        ])
    ),
    "qwen2": lambda: _words_then_bytes("qwen2", normalizer=normalizers.NFC()),
    "llama3": lambda: _words_then_bytes("llama-bpe", ignore_merges=True),
    "gpt4o": lambda: _words_then_bytes("gpt-4o"),
    "tekken": lambda: _words_then_bytes("tekken", ignore_merges=True),
    "split gpt2": lambda: _words_then_bytes("gpt-2"),
    "prefix": lambda: _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "no words": lambda: _byte_level(pre_tokenizers.ByteLevel(False, use_regex=False)),
    "own pattern": lambda: _byte_level(
        pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(r"\p{Lu}?\p{L}+|[^\r\n ]+[ ]|(?<=a) |\d{2}"), "isolated"),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ])
    ),
    "llama2": llama2,
    "gemma": gemma,
    "metaspace": metaspace,
    "metaspace always": lambda: metaspace("always", split=True),
    "unknown": lambda: metaspace("never", split=True, has_bytes=False, fuse_unk=False),
    "unknown fused": lambda: metaspace("first", split=True, has_bytes=False),
}  # fmt: skip
MAKE_OTHERS = {
    "unigram": unigram,
    "word piece": word_piece,
    "roberta": roberta,
    "underscores": with_underscores,
    "nfkc": lambda: _byte_level(pre_tokenizers.ByteLevel(False), normalizers.NFKC()),
    "no spaces": lambda: _byte_level(
        pre_tokenizers.ByteLevel(False), normalizers.Replace(" ", "▁")
    ),
    "metaspace first": lambda: after(pre_tokenizers.Metaspace(split=False)),
    "punctuation first": lambda: after(pre_tokenizers.Punctuation("merged_with_next")),
    **{flag: lambda flag=flag: flagged(flag) for flag in ("lstrip", "rstrip", "single_word")},
}
