"""The page's tokenizer.js gives the ids and the texts that the Hugging Face library gives."""

import json
import random

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers
from tokenizers_with_added_tokens import MAKE_PLAIN, strewn_text, with_added_tokens

from neo_keras.export import web
from neo_keras.text.tokenizer import Tokenizer, make_tokenizer
from neo_keras.text.tokenizer_models import KINDS

pytest_plugins = ["export_fixtures", "web_fixtures"]

TEXTS = (
    "", " ", "\n", "Shall I compare thee to a summer's day?", "  two  spaces \t\n\n end  ",
    "we'll they've I'd it's 'tis don't DON'T", "1,234.5 x2 ²³ ½ Ⅷ", "naïve café — “quotes” …",
    "日本語のテキスト 😀👩‍👩‍👧 \u0301 é", "a\x85b\xa0c\u2003d\ufefee\u200bf",
    "\ufeffa", "a \x85\x85b \ufeff\ufeff c \x85 \ufeff", "aaaaa      ===== aaa==",
    "\0\x7f\x80\xad\xff\ufffd",
    "<|end|>", "a<|end|> <|end|><|end|>! <|end", "<unk> [x]", "\r\n\r", "\ud800 \udfff!",
)  # fmt: skip


def byte_level(text, vocab_size=400, **options):
    hf = tokenizers.Tokenizer(models.BPE(**options))
    hf.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", "<|end|>!"],
        show_progress=False,
    )
    repeated = " ".join("a" * n + " " * n + "=" * n for n in range(40))
    hf.train_from_iterator([text, repeated], trainer)
    return Tokenizer(hf)


@pytest.fixture(scope="module")
def in_browser(browser):
    """Runs JavaScript with a tokenizer.json as `tokenizer`."""
    names = ("bpe.js", "components.js", "tokenizer.js")
    source = "\n".join((web.PAGE / name).read_text(encoding="utf-8") for name in names)
    page = browser.open("data:text/html,<meta charset=utf-8>")

    def run(tokenizer_json, code, value=None, config="{}"):
        return page.evaluate(
            f"(function () {{ {source}\n"
            f"const tokenizer = makeTokenizer({tokenizer_json}, {config});"
            f"const value = {json.dumps(value)}; {code} }})()"
        )

    yield run
    page.close()


def random_texts(count=60):
    rng = random.Random(5)
    alphabet = [*"  \n\tabcdE'.,1é日😀\u0301\x85\xa0", "'s", "'ll", "the ", "<|end|>"]
    return ["".join(rng.choices(alphabet, k=rng.randrange(40))) for _ in range(count)]


# What `tokenizer.stream()` of the page shows after each token, and at the end.
STREAM = """
    const show = tokenizer.stream();
    return [...ids.map(show), show()];
"""


def assert_same_ids_and_texts(in_browser, tokenizer, texts):
    ids = [tokenizer.encode(text).tolist() for text in texts]
    run = in_browser(
        tokenizer.to_json(),
        f"return value.map((text) => {{ const ids = tokenizer.encode(text); {STREAM} }})",
        texts,
    )
    assert in_browser(tokenizer.to_json(), "return value.map(tokenizer.encode)", texts) == ids
    assert ["".join(shown) for shown in run] == [tokenizer.decode(i) for i in ids]
    # As soon as in Python, too.
    assert [list(filter(None, shown)) for shown in run] == [list(tokenizer.stream(i)) for i in ids]


@pytest.mark.parametrize("options", [{}, {"ignore_merges": True}, {"vocab_size": 260}])
def test_byte_level_bpe(in_browser, tiny_corpus_text, options):
    tokenizer = byte_level(tiny_corpus_text, **options)
    assert_same_ids_and_texts(in_browser, tokenizer, [*TEXTS, *random_texts(), tiny_corpus_text])


@pytest.mark.parametrize("name", KINDS)
def test_learned_tokenizers(in_browser, tiny_corpus_text, name):
    learned_from = [tiny_corpus_text, *TEXTS[1:-1], *random_texts(), *random_texts()]
    tokenizer = make_tokenizer(name, learned_from, {"word": 150, "bpe": 331}.get(name))
    texts = [*TEXTS, *random_texts(), tiny_corpus_text]
    assert_same_ids_and_texts(in_browser, tokenizer, texts)
    facts = in_browser(
        tokenizer.to_json(),
        "return [tokenizer.startId, tokenizer.unkId, tokenizer.size, tokenizer.unknownIn(value)]",
        text := "naïve… zebra zebra's, 9½",
    )
    assert facts[:3] == [tokenizer.start_token_id, tokenizer.unk_token_id, tokenizer.vocab_size]
    assert facts[3] == tokenizer.unknown_in(text)
    assert ("zebra" in facts[3]) == (name == "word")


def test_any_bytes(in_browser):
    """A model may write bytes in any order: the page shows what Python shows."""
    tokenizer = make_tokenizer("byte", [])
    rng = random.Random(11)
    lead_and_trail = [0x61, 0x7F, 0x80, 0xBF, 0xC3, 0xE2, 0x82, 0xAC, 0xED, 0xA0, 0xF0, 0x9F, 0xFF]
    ids = [rng.choices(lead_and_trail, k=rng.randrange(9)) for _ in range(500)]
    code = f"return value.map((ids) => {{ {STREAM} }})"
    shown = in_browser(tokenizer.to_json(), code, ids)
    assert ["".join(s) for s in shown] == ["".join(tokenizer.stream(i)) for i in ids]


def test_older_merges(in_browser, tiny_corpus_text):
    tokenizer = byte_level(tiny_corpus_text)
    parsed = json.loads(tokenizer.to_json())
    parsed["model"]["merges"] = [" ".join(pair) for pair in parsed["model"]["merges"]]
    ids = in_browser(json.dumps(parsed), "return tokenizer.encode(value)", tiny_corpus_text)
    assert ids == tokenizer.encode(tiny_corpus_text).tolist()


@pytest.mark.parametrize(
    "alphabet", ["\n abcdE", "ab", "é日😀\u0301 \r\n\0\ufffd<>unk|", "__proto__10"]
)
def test_characters(in_browser, alphabet):
    tokenizer = Tokenizer.characters_of(alphabet)
    assert_same_ids_and_texts(in_browser, tokenizer, [*TEXTS, *random_texts()])
    facts = in_browser(
        tokenizer.to_json(), "return [tokenizer.startId, tokenizer.unkId, tokenizer.size]"
    )
    assert facts == [tokenizer.start_token_id, tokenizer.unk_token_id, tokenizer.vocab_size]


def test_a_word_that_no_merge_makes(in_browser, tiny_corpus_text):
    parsed = json.loads(byte_level(tiny_corpus_text, ignore_merges=True).to_json())
    parsed["model"]["vocab"]["Zqxj"] = len(parsed["model"]["vocab"])
    text = "Zqxj Zqxj"
    ids = in_browser(json.dumps(parsed), "return tokenizer.encode(value)", text)
    assert ids == Tokenizer.from_json(json.dumps(parsed)).encode(text).tolist()
    assert ids[0] == parsed["model"]["vocab"]["Zqxj"] not in ids[1:]


def test_facts_of_a_bpe(in_browser, tiny_corpus_text):
    tokenizer = byte_level(tiny_corpus_text)
    facts = in_browser(
        tokenizer.to_json(),
        "return [tokenizer.startId, tokenizer.unkId, tokenizer.size, tokenizer.unknownIn('é€')]",
    )
    assert facts == [tokenizer.start_token_id, None, tokenizer.vocab_size, []]


def test_a_character_of_several_tokens_appears_whole(in_browser, tiny_corpus_text):
    tokenizer = byte_level(tiny_corpus_text)
    ids = tokenizer.encode("é😀\ufeffa").tolist()
    shown = in_browser(tokenizer.to_json(), "return value.map(tokenizer.stream())", ids)
    assert shown == ["", "é", "", "", "", "😀", "", "", "\ufeff", "a"]


@pytest.mark.parametrize("name", MAKE_PLAIN)
def test_added_tokens(in_browser, name):
    """Those that overlap, that hold spaces or that are ordinary words, too."""
    tokenizer = Tokenizer(with_added_tokens(name))
    texts = [*TEXTS, *(strewn_text(seed, 40) for seed in range(60)), strewn_text(61, 5000)]
    if tokenizer.unk_token_id is None:
        assert_same_ids_and_texts(in_browser, tokenizer, texts)
    ids, unknown = in_browser(
        tokenizer.to_json(),
        "return [value.map((t) => tokenizer.encode(t)), value.map((t) => tokenizer.unknownIn(t))]",
        texts,
    )
    assert ids == [tokenizer.encode(text).tolist() for text in texts]
    assert unknown == [tokenizer.unknown_in(text) for text in texts]


@pytest.mark.parametrize("text", [
    "".join(random.Random(1).choices("日本語のテキスト漢字文", k=16_000)),
    "日" * 16_000,
    "😀👩‍👩‍👧" * 3_000,
    "-" * 16_000,
    " " * 16_000 + "a",
    # So long that what takes time in the square of it never ends.
    "abcd" * 100_000,
], ids=["Chinese", "one character", "emoji", "dashes", "spaces", "400,000 letters"])  # fmt: skip
def test_a_text_without_spaces(in_browser, tiny_corpus_text, text):
    learned_from = [tiny_corpus_text, *["日本語 の テキスト 漢字 漢字 😀 👩‍👩‍👧 ---- "] * 9]
    tokenizer = make_tokenizer("bpe", learned_from, 400)
    plain = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    expected = plain.encode(text).ids[-5000:]
    ids = in_browser(tokenizer.to_json(), "return tokenizer.encodeEnd(value, 5000)", text)
    assert ids == expected


@pytest.mark.parametrize("name", ["char", "word", "bpe", "byte"])
def test_only_the_last_tokens(in_browser, name):
    tokenizer = Tokenizer(with_added_tokens(name))
    text = strewn_text(3, 300)
    ids = tokenizer.encode(text).tolist()
    code = "return value[1].map((limit) => tokenizer.encodeEnd(value[0], limit))"
    limits = [1, 2, 3, 50, len(ids) - 1, len(ids), 1000]
    last = in_browser(tokenizer.to_json(), code, [text, limits])
    assert last == [ids[-limit:] for limit in limits]
    # What comes before them is not said to be unknown.
    unknown = in_browser(tokenizer.to_json(), "return tokenizer.unknownIn(value, 3)", "§ the µ the")
    assert unknown == (["µ"] if name in ("char", "word") else [])
