"""A tokenizer in the metadata of a GGUF file: what is written is read back, and has the same ids.

llama.cpp itself is asked where xllamacpp and gguf are installed.
"""

import io
import json
import re
import unicodedata

import pytest
from imported_tokenizers import MAKE_IMPORTED, MAKE_OTHERS, hard_text, llama2, sentence_piece
from llama_server import llama_cpp, write_gguf
from tiny_tokenizers import MAKE
from tokenizers import normalizers

from neo_keras.errors import InputError
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig
from neo_keras.text.tokenizer_models import BYTE_TOKENS
from neo_keras.weights.gguf_pre_tokenizers import PRE_TOKENIZERS
from neo_keras.weights.gguf_tokenizer import gguf_fields_from, merges_of, tokenizer_from_gguf

KEY = "tokenizer.ggml."
# llama.cpp knows neither the long s nor how a mark is joined to its letter.
TEXTS = [
    *("", " ", "\n", "  two  spaces \t\n\n end  ", "1,234.5 x2 ½ Ⅷ", "日本語のテキスト 😀👩 é"),
    *("we'll they've I'd it's 'tis don't DON'T'S", "a\xa0c\u2003d", "aaaaa      ===== aaa=="),
    *(
        unicodedata.normalize("NFC", re.sub("[ſ\u0301क़\u093c]", "", hard_text(seed, 60)))
        for seed in range(50)
    ),
]
TOKENIZERS = ["char", "bpe", "byte", "smollm", "qwen2", "llama3", "gpt4o", "tekken", "llama2"]


def fields_of_llama(add_prefix=True, **changes):
    """As a file of Llama 2 has them, small."""
    model = json.loads(sentence_piece().to_str())["model"]
    types = {"<unk>": 2, "<s>": 3, "</s>": 3, **dict.fromkeys(BYTE_TOKENS, 6)}
    fields = {
        "model": "llama",
        "tokens": list(model["vocab"]),
        "scores": [0.0 if token in types else -float(i) for token, i in model["vocab"].items()],
        "token_type": [types.get(token, 1) for token in model["vocab"]],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        "add_space_prefix": add_prefix,
        **changes,
    }
    return {KEY + name: value for name, value in fields.items()}


def read(fields):
    text, config = tokenizer_from_gguf(fields)
    return Tokenizer.from_json(text, config_text=json.dumps(config))


def make(name):
    if name == "char":
        characters = set("".join(TEXTS)) - {"\u2581"}
        return Tokenizer.characters_of("".join(characters))
    if name == "llama2":
        return read(fields_of_llama())
    config = TokenizerConfig("</s>", "<s>", True, "{{ messages }}")
    return (
        Tokenizer(MAKE_IMPORTED[name](), config)
        if name in MAKE_IMPORTED
        else Tokenizer(MAKE[name]())
    )


@pytest.fixture(scope="module", params=TOKENIZERS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(name):
    return make(name)


@pytest.fixture(scope="module")
def texts(name):
    return [text.replace("\u2581", "") for text in TEXTS] if name == "char" else TEXTS


def test_what_is_written_is_read(tokenizer, texts):
    fields = gguf_fields_from(tokenizer)
    again = read(fields)
    assert gguf_fields_from(again) == fields
    assert again.config == tokenizer.config
    assert again.end_token_id == tokenizer.end_token_id
    for text in texts:
        ids = tokenizer.encode(text)
        assert again.encode(text).tolist() == ids.tolist()
        assert list(again.stream(ids)) == list(tokenizer.stream(ids))


def test_llama_cpp_has_the_same_ids(tokenizer, texts, tmp_path):
    write_gguf(tmp_path / "model.gguf", gguf_fields_from(tokenizer, tokenizer.vocab_size + 3))
    with llama_cpp(tmp_path / "model.gguf") as encode:
        ids = [encode(text) for text in texts]
        begun = encode("the", special=True)
    assert ids == [tokenizer.encode(text).tolist() for text in texts]
    first = [tokenizer.bos_token_id] if tokenizer.config.add_bos_token else []
    assert begun == [*first, *tokenizer.encode("the").tolist()]


@pytest.mark.parametrize("row", PRE_TOKENIZERS, ids=lambda row: row.names[0])
def test_each_pre_tokenizer_is_that_of_llama_cpp(row, tmp_path):
    fields = gguf_fields_from(Tokenizer(MAKE["bpe"]())) | {KEY + "pre": row.names[-1]}
    tokenizer = read(fields)
    assert gguf_fields_from(tokenizer)[KEY + "pre"] == row.names[0]
    assert tokenizer.config.add_bos_token is False  # the file says so
    write_gguf(tmp_path / "model.gguf", fields)
    with llama_cpp(tmp_path / "model.gguf") as encode:
        assert [encode(text) for text in TEXTS] == [tokenizer.encode(t).tolist() for t in TEXTS]


@pytest.mark.parametrize("add_prefix", [True, False])
def test_ids_of_sentence_piece_itself(add_prefix):
    spm = pytest.importorskip("sentencepiece")
    model, lines = io.BytesIO(), [hard_text(seed, 200, special=False) for seed in range(60)]
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=400,
        byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=add_prefix,
        remove_extra_whitespaces=False, character_coverage=0.99, minloglevel=2,
    )  # fmt: skip
    library = spm.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(library.get_piece_size())
    kinds = [("is_unknown", 2), ("is_control", 3), ("is_byte", 6), ("is_unused", 5)]
    types = [next((t for name, t in kinds if getattr(library, name)(i)), 1) for i in ids]
    tokenizer = read(
        fields_of_llama(
            add_prefix,
            tokens=[library.id_to_piece(i) for i in ids],
            scores=[library.get_score(i) for i in ids],
            token_type=types,
        )
    )
    for seed in range(200):
        text = hard_text(seed, 60, special=False).replace("\0", "")
        assert tokenizer.encode(text).tolist() == library.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == library.decode(library.encode(text))


def test_llamas_tokens_by_hand():
    tokens = ["<unk>", "<s>", "</s>", *BYTE_TOKENS, "▁", "a", "b", "ab", "▁a", "▁ab"]
    scores = [0.0] * 259 + [-5.0, -6.0, -7.0, -2.0, -1.0, -3.0]
    types = [2, 3, 3] + [6] * 256 + [1] * 6
    tokenizer = read(fields_of_llama(tokens=tokens, scores=scores, token_type=types))
    # "▁a" has the best score, so that it is joined first; then "▁ab".
    assert tokenizer.encode("ab ab\n").tolist() == [264, 264, 3 + 10]
    assert tokenizer.encode("bab").tolist() == [259, 261, 262]
    assert tokenizer.config == TokenizerConfig("</s>", "<s>", True)
    vocab = {"a": 0, "b": 1, "▁": 2, "ab": 3, "▁a": 4}
    assert merges_of({"ab": -2.0, "▁a": -1.0}, vocab) == [("▁", "a"), ("a", "b")]


def test_rows_that_fill_up():
    tokenizer = make("llama2")
    size = tokenizer.vocab_size
    fields = gguf_fields_from(tokenizer, size + 2)
    assert fields[KEY + "tokens"][size:] == [f"[PAD{size}]", f"[PAD{size + 1}]"]
    assert fields[KEY + "token_type"][size:] == [5, 5]
    assert fields[KEY + "suppress_tokens"] == [size, size + 1]
    assert read(fields).vocab_size == size


def test_an_end_that_never_comes():
    """Without a name for it, llama.cpp would end texts at the eleventh token."""
    fields = gguf_fields_from(Tokenizer(MAKE["bpe"]()))
    assert fields[KEY + "tokens"][fields[KEY + "eos_token_id"]] == "ÿ"  # no byte of UTF-8
    fields = gguf_fields_from(Tokenizer.characters_of("abÿ"))
    assert fields[KEY + "eos_token_id"] == fields[KEY + "unknown_token_id"] == 3
    assert (
        gguf_fields_from(Tokenizer.characters_of("ab").with_end_token())[KEY + "eos_token_id"] == 3
    )


@pytest.mark.parametrize(("changes", "match"), [
    ({"model": "t5"}, "a tokenizer of the model gpt2 or llama, got t5: take the"),
    ({"tokens": []}, "got no tokens"),
    ({"tokens": ["a", "a"], "token_type": [1, 1]}, "got 2 tokens, 1 of them different"),
    ({"token_type": [1]}, " 1 types"),
    ({"model": "gpt2", "pre": "gpt-9"}, "tokenizer.ggml.pre is known .gpt-2, .*, got gpt-9: take"),
])  # fmt: skip
def test_files_that_are_refused(changes, match):
    with pytest.raises(InputError, match=f"^expected a GGUF file [^\n]*{match}[^\n]*$"):
        tokenizer_from_gguf(fields_of_llama(**changes))


def changed(**parts):
    hf = llama2()
    for part, value in parts.items():
        setattr(hf, part, value)
    return hf


@pytest.mark.parametrize(("hf", "match"), [
    (lambda: MAKE["word"](), "got word .WordLevel."),
    (MAKE_OTHERS["unigram"], "got imported .Unigram."),
    (MAKE_OTHERS["roberta"], "'<mask>' changes the text"),
    (MAKE_OTHERS["word piece"], "got imported .WordPiece."),
    (MAKE_IMPORTED["digits"], "another pre-tokenizer"),
    (MAKE_IMPORTED["own pattern"], "another pre-tokenizer"),
    (MAKE_IMPORTED["llama2"], "joins in another order than SentencePiece"),
    (MAKE_IMPORTED["gemma"], "got one with the normalizer Replace"),
    (lambda: changed(normalizer=normalizers.NFKC()), "another kind than Llama's"),
    (lambda: Tokenizer.characters_of(" \u2581")._hf, "both a space and U.2581"),
])  # fmt: skip
def test_tokenizers_that_are_refused(hf, match):
    with pytest.raises(InputError, match=f"^expected a tokenizer that GGUF[^\n]*{match}[^\n]*$"):
        gguf_fields_from(Tokenizer(hf()))
