"""A `tokenizer.json` that others made: taken if the library can run it on every text."""

import re

import pytest
import tokenizers
from tiny_tokenizers import MAKE, SAMPLE
from tokenizers import decoders, models, normalizers, pre_tokenizers

from neo_keras.errors import InputError
from neo_keras.text import tokenizer_models
from neo_keras.text.tokenizer import Tokenizer

GPT2_LIKE = ["<|endoftext|>", "<|pad|>"]


def gpt2_like():
    """As GPT-2's file is: an added token, a post-processor, empty affixes instead of none."""
    hf = tokenizer_models.train_bpe([SAMPLE], 300)
    vocab, merges = hf.get_vocab(), []
    model = models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix="")
    hf = tokenizers.Tokenizer(model)
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    hf.post_processor = tokenizers.processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", len(vocab))]
    )
    hf.add_special_tokens(GPT2_LIKE)
    hf.enable_truncation(3)
    hf.enable_padding(length=9, pad_id=len(vocab) + 1, pad_token="<|pad|>")
    return hf


def test_added_tokens_are_kept_and_nothing_else_is_added():
    hf = gpt2_like()
    tokenizer = Tokenizer.from_json(hf.to_str())
    assert (tokenizer.kind, tokenizer.vocab_size) == ("bpe", 302)
    text = "the été<|endoftext|>\n日"
    token_ids = tokenizer.encode(text).tolist()
    assert token_ids.count(300) == 1 and 301 not in token_ids
    assert tokenizer.decode(token_ids) == "".join(tokenizer.stream(token_ids)) == text
    broken = [*tokenizer.encode("é")[:1], 300, 300]
    assert (
        "".join(tokenizer.stream(broken))
        == "\ufffd" + 2 * "<|endoftext|>"
        == tokenizer.decode(broken)
    )
    assert Tokenizer.from_json(tokenizer.to_json()).encode(text).tolist() == token_ids


def changed(kind, **parts):
    hf = MAKE[kind]()
    for name, part in parts.items():
        setattr(hf, name, part)
    return hf


def with_model(model):
    hf = MAKE["bpe"]()
    hf.model = model
    return hf


LETTERS = tokenizer_models.BYTE_DECODER


@pytest.mark.parametrize(
    "hf",
    [
        tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0)),
        tokenizers.Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]")),
        changed("bpe", normalizer=normalizers.NFC()),
        changed("char", normalizer=normalizers.Lowercase()),
        changed("bpe", pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        changed("bpe", pre_tokenizer=pre_tokenizers.ByteLevel(False, use_regex=False)),
        changed("bpe", pre_tokenizer=pre_tokenizers.Whitespace()),
        changed("bpe", decoder=decoders.Fuse()),
        changed("char", pre_tokenizer=pre_tokenizers.Whitespace()),
        changed("char", decoder=decoders.WordPiece()),
        changed("word", pre_tokenizer=pre_tokenizers.Metaspace()),
        with_model(models.BPE({letter: i for letter, i in LETTERS.items() if i != 255}, [])),
        with_model(models.BPE({letter: 2 * i for letter, i in LETTERS.items()}, [])),
    ],
    ids=lambda hf: type(hf.model).__name__,
)  # fmt: skip
def test_other_tokenizers_are_taken_as_they_are(hf, tmp_path):
    path = tmp_path / "tokenizer.json"
    Tokenizer(hf).save(path)
    tokenizer = Tokenizer.load(path)
    assert tokenizer.kind == "imported"
    assert tokenizer.encode(SAMPLE).tolist() == hf.encode(SAMPLE).ids
    tokenizer.check_vocab_size(tokenizer.vocab_size + 1, path)
    with pytest.raises(InputError, match="tokens but its model has"):
        tokenizer.check_vocab_size(tokenizer.vocab_size - 1, path)


@pytest.mark.parametrize("hf", [
    tokenizers.Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)])),
    tokenizers.Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]")),
    tokenizers.Tokenizer(models.BPE({"a": 0}, [], unk_token="?")),
    tokenizers.Tokenizer(models.BPE()),
    with_model(models.BPE(LETTERS, [], dropout=0.1)),
    with_model(models.BPE({"a": 0, "b": 2**20}, [])),
    changed("char", model=models.WordLevel({"a": 0, "b": 1}, unk_token="?")),
], ids=lambda hf: type(hf.model).__name__)  # fmt: skip
def test_what_the_library_cannot_run_on_every_text_is_refused(hf, tmp_path):
    path = tmp_path / "tokenizer.json"
    hf.save(str(path))
    for make in (lambda: Tokenizer(hf), lambda: Tokenizer.load(path)):
        with pytest.raises(InputError, match="expected (a|at least one) [^\n]*$"):
            make()
    with pytest.raises(InputError, match=re.escape(f"{path}: expected ")):
        Tokenizer.load(path)
