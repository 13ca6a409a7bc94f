"""The page gives the ids and texts of tokenizers that came with weights, or is not made."""

import dataclasses
import json

import pytest
import tokenizers
from imported_tokenizers import MAKE_IMPORTED, MAKE_OTHERS, digits_then_bytes, hard_text, llama2
from page_driver import open_page, served, write
from test_web_tokenizer import TEXTS, in_browser  # noqa: F401
from tiny_models import make_run
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers

from neo_keras.errors import InputError
from neo_keras.export import exporter
from neo_keras.export.page_tokenizer import check_tokenizer
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import Sampler
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig

pytest_plugins = ["export_fixtures", "web_fixtures"]


@pytest.mark.parametrize("name", MAKE_IMPORTED)
def test_ids_and_texts(in_browser, name):  # noqa: F811
    hf = MAKE_IMPORTED[name]()
    tokenizer = Tokenizer(hf)
    check_tokenizer(tokenizer)
    texts = [*TEXTS, *(hard_text(seed, 60) for seed in range(150)), hard_text(151, 5000)]
    ids = in_browser(tokenizer.to_json(), "return value.map(tokenizer.encode)", texts)
    expected = [tokenizer.encode(text).tolist() for text in texts]
    assert [(t, i) for t, i, e in zip(texts, ids, expected) if i != e] == []
    code = """return value.map((ids) => {
        const show = tokenizer.stream();
        return [...ids.map(show), show()];
    })"""
    shown = in_browser(tokenizer.to_json(), code, ids)
    assert [list(filter(None, s)) for s in shown] == [list(tokenizer.stream(i)) for i in ids]
    facts = in_browser(
        tokenizer.to_json(),
        "return [tokenizer.startId, tokenizer.unkId, tokenizer.size, tokenizer.unknownIn('a☃ é')]",
    )
    unknown = tokenizer.unknown_in("a☃ é")
    assert facts == [
        tokenizer.start_token_id, tokenizer.unk_token_id, tokenizer.vocab_size, unknown,
    ]  # fmt: skip


def test_normalized_added_tokens(in_browser):  # noqa: F811
    """They stand in the text as it is once it is normalized."""
    for make in (MAKE_IMPORTED["qwen2"], MAKE_IMPORTED["gemma"], llama2):
        hf = make()
        hf.add_tokens([AddedToken("e\u0301 the", normalized=True), "the  a"])
        tokenizer = Tokenizer(hf)
        texts = [
            "e\u0301 the  a",
            "é the x",
            " the  a the  a",
            *(hard_text(i, 60) for i in range(50)),
        ]
        ids = in_browser(tokenizer.to_json(), "return value.map(tokenizer.encode)", texts)
        assert ids == [hf.encode(text, add_special_tokens=False).ids for text in texts]


def test_what_begins_and_ends_a_text(in_browser):  # noqa: F811
    full = TokenizerConfig("</s>", "<s>", True)
    code = """return [tokenizer.startId, tokenizer.endId, tokenizer.encodePrompt("", 4),
                      tokenizer.encodePrompt("the", 9), tokenizer.encodePrompt(value, 3)]"""
    for config in (full, dataclasses.replace(full, add_bos_token=False, bos_token=None)):
        tokenizer = Tokenizer(llama2(), config)
        first = [tokenizer.bos_token_id] if config.add_bos_token else []
        text = "the a the a"
        assert in_browser(tokenizer.to_json(), code, text, config.to_json()) == [
            tokenizer.start_token_id, tokenizer.end_token_id, [tokenizer.start_token_id],
            [*first, *tokenizer.encode("the").tolist()], tokenizer.encode(text)[-3:].tolist(),
        ]  # fmt: skip


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "eos", "bos"), [("qwen2", "<|im_start|>", None),
                                                  ("llama2", "</s>", "<s>")])  # fmt: skip
def test_the_page_stops_at_the_end_token(runtime, browser, tmp_path, name, eos, bos):
    """Of a model that was tuned on chats, whose tokenizer_config.json names the token."""
    config = TokenizerConfig(eos, bos, bos is not None, "{{ messages }}")
    tokenizer = Tokenizer(MAKE_IMPORTED[name](), config)
    text = f"the a a a x_1 the{eos}" * 300
    run = make_run(tmp_path / "run", 30, text, tokenizer, num_layers=1)
    exporter.export_run(run, ["web"], ["float32"])
    engine, tokenizer = load_engine(run.path)
    with served(run.export / "web") as url:
        page = open_page(browser, url)
        for settings in ({"temperature": 0}, {"seed": 1}):
            sampler = Sampler(settings.get("temperature", 0.8))
            pieces = generate_text(engine, tokenizer, "the a", 200, sampler, 1)
            expected = "".join(pieces)
            assert write(page, prompt="the a", **settings) == expected
            assert expected.endswith("the") and eos not in expected
            assert int(page.text("#status").split()[0]) < 20  # tokens, of 200
        # The page is ready again.
        assert write(page, prompt="the a", temperature=0)
        page.close()


def byte_level(pattern="x", **parts):
    hf = digits_then_bytes()
    hf.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), parts.pop("behavior", "isolated"),
                             parts.pop("invert", False)),
        pre_tokenizers.ByteLevel(False, use_regex=False),
    ])  # fmt: skip
    for name, part in parts.items():
        setattr(hf, name, part)
    return hf


PATTERNS = [
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+""",
    r"[一-龥\u3040-ゟ゠-ヿ]+".replace(r"\u3040", "぀"),
    r"\p{Han}+|a.|\d+?|(?<=t)h|(?<!x)e|x{2,}|_(?!\d)",
]


@pytest.mark.parametrize("behavior", ["isolated", "removed", "merged_with_next",
                                      "merged_with_previous"])  # fmt: skip
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_and_behaviors(in_browser, pattern, behavior):  # noqa: F811
    tokenizer = Tokenizer(byte_level(pattern, behavior=behavior))
    check_tokenizer(tokenizer)
    texts = [*(hard_text(seed, 60) for seed in range(80)), "the  a_1 x_9 日本語 axx ' !if(a) 1234"]
    ids = in_browser(tokenizer.to_json(), "return value.map(tokenizer.encode)", texts)
    assert ids == [tokenizer.encode(text).tolist() for text in texts]


@pytest.mark.parametrize(("hf", "what"), [
    (MAKE_OTHERS["unigram"], "the model Unigram"),
    (MAKE_OTHERS["word piece"], "the model WordPiece"),
    (MAKE_OTHERS["roberta"], "the added token '<mask>' with lstrip"),
    (MAKE_OTHERS["single_word"], "the added token 'User' with single_word"),
    (lambda: byte_level(normalizer=normalizers.Lowercase()), "the normalizer Lowercase"),
    (lambda: byte_level(decoder=decoders.WordPiece()), "the decoder WordPiece"),
    (lambda: byte_level(pre_tokenizer=pre_tokenizers.Whitespace()), "pre_tokenizer Whitespace"),
    (lambda: byte_level(behavior="contiguous"), "Split with the behavior Contiguous"),
    (lambda: byte_level(invert=True), "the pre_tokenizer Split with invert"),
    (lambda: byte_level(r"\p{L}++"), r"with the pattern \p{L}++"),
    (lambda: byte_level(r"(?>a)"), "with the pattern (?>a)"),
    (lambda: byte_level(r"[a[b]]"), "with the pattern [a[b]]"),
    (lambda: byte_level(r"^a"), "with the pattern ^a"),
    (lambda: byte_level(r"\w"), r"with the pattern \w"),
    (lambda: byte_level(r"\p{Alphabetic}"), r"with the pattern \p{Alphabetic}"),
    (lambda: byte_level(r"(?i:[a-c])"), "with the pattern (?i:[a-c])"),
])  # fmt: skip
def test_what_the_page_lacks_is_refused(hf, what):
    with pytest.raises(InputError) as error:
        check_tokenizer(Tokenizer(hf()))
    assert what in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_component_in_a_page(in_browser):  # noqa: F811
    fields = json.loads(tokenizers.Tokenizer.from_str(llama2().to_str()).to_str())
    fields["normalizer"] = {"type": "Lowercase"}
    with pytest.raises(Exception, match="Lowercase"):
        in_browser(json.dumps(fields), "return 0")
