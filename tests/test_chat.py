"""Chat templates: what they render, which ids are trained, what ends a turn."""

import json

import pytest
from chat_templates import ENDS, HAS_SYSTEM, MAKE_TOKENIZER, TEMPLATES, chat_tokenizer, conversation

from neo_keras.errors import InputError
from neo_keras.text import sandbox
from neo_keras.text.chat import encode_conversation, end_of_turn_ids, render
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig

LONG = ["the 12 a's", " don't\n\nx_1 ", "日本語 é", "a.b", "the the\n", "User: <x>"]
CONVERSATIONS = {
    "one": conversation("the a"),
    "answered": conversation("the a", "a the"),
    "long": conversation(*LONG),
    "system": conversation(*LONG[:3], system=" Be the a. "),
    "odd": conversation("", "{{ 7 * 7 }}", "\u2028{% x %}", "\t"),
}


@pytest.fixture(params=TEMPLATES)
def name(request):
    return request.param


def config_of(template, **others):
    return TokenizerConfig("</s>", "<s>", chat_template=template, **others)


def test_chatml_by_hand():
    config = config_of(TEMPLATES["chatml"])
    assert render(config, conversation("Hi"), add_generation_prompt=True) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert render(config, conversation("Hi", " Yes. ", system="S")) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n Yes. <|im_end|>\n"
    )


def test_the_date(monkeypatch):
    class Today:
        @staticmethod
        def now():
            return sandbox.real(2026, 2, 28)

    monkeypatch.setattr(sandbox, "real", sandbox.datetime, raising=False)
    monkeypatch.setattr(sandbox, "datetime", Today)
    text = render(config_of(TEMPLATES["headers"]), conversation("Hi"))
    assert text.startswith("<s><|start_header_id|>system<|end_header_id|>\n\nToday: 28 February 20")


@pytest.mark.parametrize("kind", MAKE_TOKENIZER)
@pytest.mark.parametrize("messages", [c for c in CONVERSATIONS if c != "system"])
def test_segments_are_the_conversation(name, kind, messages):
    tokenizer, messages = chat_tokenizer(name, kind), CONVERSATIONS[messages]
    segments = encode_conversation(tokenizer, messages)
    whole = tokenizer.encode(render(tokenizer.config, messages)).tolist()
    joined = [i for token_ids, _ in segments for i in token_ids]
    if messages is not CONVERSATIONS["odd"]:  # borders that are none for a tokenizer
        assert joined == whole
    assert tokenizer.decode(joined) == tokenizer.decode(whole)
    trained = [token_ids for token_ids, is_trained in segments if is_trained]
    assert len(trained) == len(messages) // 2
    (end,) = tokenizer.encode(ENDS[name])[-1:]
    for token_ids, message in zip(trained, messages[1::2]):
        text = tokenizer.decode(token_ids).strip()
        assert token_ids[-1] == end and token_ids.count(end) == 1
        assert text.removesuffix(ENDS[name]).strip() == message["content"].strip()


@pytest.mark.parametrize("kind", MAKE_TOKENIZER)
def test_generation_sees_what_training_saw(name, kind):
    """The prompt of each answer is, id by id, what stood before it in training."""
    tokenizer, messages = chat_tokenizer(name, kind), CONVERSATIONS["long"]
    segments, before = encode_conversation(tokenizer, messages), []
    for token_ids, is_trained in segments:
        if is_trained:
            k = 1 + 2 * sum(trained for _, trained in segments[: segments.index((token_ids, True))])
            prompt = encode_conversation(tokenizer, messages[:k], add_generation_prompt=True)
            assert [i for ids, _ in prompt for i in ids] == before
        before = before + token_ids


def test_a_border_that_is_none():
    """Two line breaks are one token: the answer's own is trained apart from the prompt's."""
    tokenizer = chat_tokenizer("chatml")
    assert len(tokenizer.encode("\n\n")) == 1
    (prompt, _), (answer, _), _ = encode_conversation(tokenizer, conversation("Hi", "\nthe"))
    line_break = tokenizer.encode("\n").tolist()
    assert (prompt[-1:], answer[:1]) == (line_break, line_break)


def test_one_beginning_at_most():
    tokenizer = chat_tokenizer("headers")
    messages = conversation("Hi", "the", "a")
    ids = [i for ids, _ in encode_conversation(tokenizer, messages, True) for i in ids]
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


def test_without_a_token_at_the_end_of_a_turn():
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    template += "{% if add_generation_prompt %}assistant:{% endif %}"
    tokenizer = chat_tokenizer(template)
    segments = encode_conversation(tokenizer, conversation("Hi", "the", "a"))
    texts = [(tokenizer.decode(ids), is_trained) for ids, is_trained in segments]
    assert texts == [("user: Hi\nassistant:", False), (" the", True), ("\nuser: a\n", False)]
    assert end_of_turn_ids(tokenizer) == (tokenizer.end_token_id,)


def test_what_ends_a_turn(name):
    tokenizer = chat_tokenizer(name, extra_eos_tokens=("<|user|>",))
    ends = [tokenizer.decode([i]) for i in end_of_turn_ids(tokenizer)]
    assert ends == list(dict.fromkeys([ENDS[name], "</s>", "<|user|>"]))


def test_a_template_that_changes_earlier_turns():
    last = "{% for m in messages %}{{ m.role if loop.last }}{{ m.content }}</s>{% endfor %}"
    for template in (last, "{{ messages | length }}" + last):
        with pytest.raises(InputError, match="changes earlier turns: give conversations with one"):
            encode_conversation(chat_tokenizer(template), conversation("Hi", "the", "a", "b"))


@pytest.mark.parametrize("template, messages, said", [
    (None, conversation("Hi"), "has no chat template"),
    ("{% for %}", conversation("Hi"), "says \"Expected an expression, got 'end of statement"),
    ("{{ messages[3].content }}", conversation("Hi"), "says 'list object has no element 3'"),
    ("{{ x.y }}", conversation("Hi"), "says \"'x' is undefined\""),
    ("{{ 'a' | nothing }}", conversation("Hi"), "says \"No filter named 'nothing'.\""),
    (TEMPLATES["turns"], conversation("Hi", system="S"), "says 'The role system is not known'"),
    (TEMPLATES["instructions"], conversation("Hi")[:1] * 2, "says 'Roles must take turns: user"),
    ("{{ raise_exception('a\\nb' * 99) }}", conversation("Hi"), "says 'a ba ba"),
    ("x", ["Hi"], "expected a message such as"),
    ("x", [{"role": 3, "content": "Hi"}], "expected a message such as"),
    ("x", [{"role": "user", "content": object()}], "expected messages of JSON values"),
])  # fmt: skip
def test_refused_in_one_line(template, messages, said):
    with pytest.raises(InputError) as caught:
        render(config_of(template), messages)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_files_of_hugging_face(tmp_path):
    """A template in a file of its own comes before the configuration's; more tokens end a text."""
    tokenizer = chat_tokenizer("roles")
    tokenizer.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").config == tokenizer.config
    (tmp_path / "chat_template.jinja").write_text("é", "utf-8")
    ends = [tokenizer.encode(token)[0].item() for token in ("</s>", "<|eot_id|>")]
    generation = tmp_path / "generation_config.json"
    for eos_token_id, expected in (
        (ends, ends),
        (ends[1], ends),
        (None, ends[:1]),
        ("x", ends[:1]),
    ):
        generation.write_text(json.dumps({"eos_token_id": eos_token_id}))
        loaded = Tokenizer.load(tmp_path / "tokenizer.json")
        assert (loaded.config.chat_template, loaded.end_token_ids) == ("é", expected)
    generation.write_text(json.dumps({"eos_token_id": ends}))
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    again = tmp_path / "again" / "tokenizer.json"
    again.parent.mkdir()
    loaded.save(again)
    assert Tokenizer.load(again).config == loaded.config
    loaded.save(tmp_path / "tokenizer.json")
    assert not (tmp_path / "chat_template.jinja").exists()


@pytest.mark.parametrize("name, content", [
    ("chat_template.jinja", b"\xff"), ("generation_config.json", b"{"),
    ("generation_config.json", b"[1]"),
])  # fmt: skip
def test_damaged_files_beside(tmp_path, name, content):
    chat_tokenizer("roles").save(tmp_path / "tokenizer.json")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"tokenizer.json: the {name} beside it is damaged"):
        Tokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", MAKE_TOKENIZER)
@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_transformers_renders_the_same(name, kind, messages, tmp_path):
    if messages == "system" and name not in HAS_SYSTEM:
        pytest.skip("the template has no system role")
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    tokenizer, messages = chat_tokenizer(name, kind), CONVERSATIONS[messages]
    tokenizer.save(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for add_generation_prompt in (False, True):
        options = {"add_generation_prompt": add_generation_prompt}
        text = render(tokenizer.config, messages, add_generation_prompt)
        assert theirs.apply_chat_template(messages, tokenize=False, **options) == text
        ids = theirs.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
        if messages is not CONVERSATIONS["odd"]:
            segments = encode_conversation(tokenizer, messages, add_generation_prompt)
            assert [i for token_ids, _ in segments for i in token_ids] == ids


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("first", [[], [{"role": "system", "content": "S"}]])
def test_a_conversation_that_the_assistant_begins(name, first):
    """It is encoded whole, or refused with what to change."""
    messages = [*first, *conversation("Hi", "the", "a", "b")[1:]]
    tokenizer = chat_tokenizer(name)
    try:
        segments = encode_conversation(tokenizer, messages)
    except InputError as error:
        assert str(error).startswith("expected a user's message before the assistant's first one")
        assert "\n" not in str(error) and "take that one out" in str(error)
    else:
        token_ids = [token_id for part_ids, _ in segments for token_id in part_ids]
        assert tokenizer.decode(token_ids) == render(tokenizer.config, messages)
