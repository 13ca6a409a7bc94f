"""The page's chat mode: the ids and the answers that Python has, where the template is simple."""

import json

import pytest
from chat_templates import HAS_SYSTEM, MAKE_TOKENIZER, TEMPLATES, chat_tokenizer, conversation
from page_driver import DONE, console_errors, open_page, served
from tiny_models import make_run

from neo_keras.errors import InputError
from neo_keras.export import exporter, web
from neo_keras.export.page_chat import chat_strings
from neo_keras.generation.chat import Conversation
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.text.chat import encode_conversation

pytest_plugins = ["export_fixtures", "web_fixtures"]

CONTENTS = ["the 12 a's", "don't\n\nx_1", "日本語 é", "a.b", "the the\nthe"]


@pytest.mark.parametrize("kind", MAKE_TOKENIZER)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_ids_are_those_of_encode_conversation(browser, name, kind):
    tokenizer = chat_tokenizer(name, kind)
    strings = chat_strings(tokenizer)
    assert (strings["system"] is not None) == (name in HAS_SYSTEM)
    conversations = [conversation(*CONTENTS[:n]) for n in (1, 3, 5)]
    conversations += [conversation(*CONTENTS[:3], system="Be the a.")] * (name in HAS_SYSTEM)
    files = ("bpe.js", "components.js", "tokenizer.js", "chat.js")
    source = "\n".join((web.PAGE / file).read_text(encoding="utf-8") for file in files)
    page = browser.open("data:text/html,<meta charset=utf-8>")
    got = page.evaluate(
        f"""(function () {{ {source}
        const tokenizer = makeTokenizer({tokenizer.to_json()}, {tokenizer.config.to_json()});
        const promptIds = makeChat({json.dumps(strings)}, tokenizer, 999);
        return {json.dumps(conversations)}.map((messages) => promptIds(messages, 9)); }})()"""
    )
    page.close()
    for messages, has in zip(conversations, got):
        segments = encode_conversation(tokenizer, messages, add_generation_prompt=True)
        assert has["ids"] == [i for ids, _ in segments for i in ids]
        assert (has["room"], has["forgotten"]) == (9, False)


@pytest.mark.parametrize("template, said", [
    ("{% for m in messages %}{{ m.content }}</s>{{ messages | length }}{% endfor %}",
     "is more than strings around the messages"),
    ("{% for m in messages %}{{ m.content | upper }}</s>{% endfor %}", "is more than strings"),
    ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "no token ends an assistant's turn"),
    ("{% for m in messages %}{{ m.content }}{{ m.content }}</s>{% endfor %}", "each message once"),
    ("{{ raise_exception('no') }}", "says 'no'"),
])  # fmt: skip
def test_templates_that_no_page_can_have(template, said):
    with pytest.raises(InputError, match=said):
        chat_strings(chat_tokenizer(template))


def export(tmp_path, tokenizer):
    text = "<|im_start|>user\nthe a<|im_end|>\n<|im_start|>assistant\nthe 12 a's<|im_end|>\n"
    run = make_run(tmp_path / "run", 40, text * 60, tokenizer, num_layers=1)
    exporter.export_run(run, ["web"], ["float32"])
    return run


def test_without_a_chat_mode(tmp_path):
    path = tmp_path / "tokenizer.json"
    chat_tokenizer("{% for m in messages %}{{ m.content }}{% endfor %}").save(path)
    with pytest.warns(match="the web page has no chat mode: no token ends an assistant's turn"):
        assert web._chat_of(path) is None


RECORD = """
class Tensor {
    constructor(data) { this.data = data; }
    toTypedArray() { return this.data; }
    delete() {}
}
const runs = [], signatures = { sample_31: {} };
signatures.prefill = { getInputDetails: () => [{ name: "tokens", shape: [1, 5] }] };
const model = { signatures, run: async (name, { tokens, input_pos }) => {
    runs.push([name, [...tokens.data], input_pos.data[0]]);
    return { next_token: new Tensor([100 + input_pos.data[0]]) };
} };
async function turn(promptIds, count, reuse) {
    runs.length = 0;
    const got = [];
    for await (const id of write(promptIds, {}, reuse)) {
        if (got.push(id) === count) break;
    }
    return [got, [...runs]];
}
"""


def test_what_is_in_the_cache_is_not_computed_again(browser):
    source = (web.PAGE / "writer.js").read_text(encoding="utf-8")
    page = browser.open("data:text/html,<meta charset=utf-8>")

    def turns(*calls):
        calls = ", ".join(f"await turn({json.dumps(call)[1:-1]})" for call in calls)
        return page.evaluate(
            f"(async function () {{ {source} {RECORD} "
            f"const write = makeWriter({{ Tensor }}, model, 31); return [{calls}]; }})()"
        )

    first, second = [1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 106, 107, 9, 8]
    (got, runs), (more, later), (other, anew) = turns(
        (first, 2, True), (second, 1, True), ([1, 2, 9], 1, True)
    )
    assert got == [106, 107]
    assert runs == [
        ["prefill", [1, 2, 3, 4, 5], 0], *(["sample_31", [t], t - 1] for t in (6, 7)),
        ["sample_31", [106], 7],
    ]  # fmt: skip
    # The last token was sampled, and not read.
    assert more == [110]
    assert later == [["sample_31", [107], 8], ["sample_31", [9], 9], ["sample_31", [8], 10]]
    assert anew == [["sample_31", [9], 2]]
    # A long rest is read in chunks, the last of which has to begin earlier.
    tokens = [1, 2, *range(20, 49)]
    _, (_, runs) = turns((first, 2, True), (tokens, 1, True))
    starts = [2, 7, 12, 17, 22, 26]
    assert runs == [
        *(["prefill", [*tokens[:30], 0][start : start + 5], start] for start in starts),
        ["sample_31", [48], 30],
    ]
    # A text that is no conversation begins anew, so that it depends on nothing before it.
    (_, runs), (_, again) = turns((first, 2, False), (first, 2, False))
    assert runs == again
    page.close()


BUBBLES = "[...document.querySelectorAll('.bubble')].map((b) => [b.className, b.textContent])"


def test_a_conversation_in_the_page(runtime, browser, tmp_path):
    run = export(tmp_path, chat_tokenizer("chatml"))
    engine, tokenizer = load_engine(run.path)
    conversation, expected = Conversation(engine, tokenizer, "the a"), []
    browser.events.clear()
    with served(run.export / "web") as url:
        page = open_page(browser, url)
        page.evaluate("document.querySelector('#chat').click()")
        for name, value in (("system", " the a "), ("length", 9), ("temperature", 0)):
            page.fill(f"#{name}", value)
        for text in ("the a", " a's 12 ", "the the"):
            page.fill("#prompt", text)
            page.click("#write")
            page.wait_for(DONE)
            answer = "".join(conversation.answer(text.strip(), 9, GREEDY))
            expected += [["bubble user", text.strip()], ["bubble assistant", answer]]
            assert page.evaluate(BUBBLES) == expected
        assert "<|im_end|>" not in str(expected)
        # A message that is too long is given back, and the conversation stays as it was.
        page.fill("#prompt", "the 12 " * 99)
        page.click("#write")
        page.wait_for("!document.querySelector('#note').hidden && " + DONE)
        assert page.text("#note").startswith("Error: the message has ")
        assert page.evaluate("document.querySelector('#prompt').value").startswith("the 12 the")
        assert page.evaluate(BUBBLES) == expected
        page.evaluate("document.querySelector('#chat').click()")
        assert page.evaluate(BUBBLES) == []
        page.close()
    assert console_errors(browser.events) == []
