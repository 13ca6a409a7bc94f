"""Files of examples that are none: one line says what is wrong, and where."""

import json

import pytest
from example_files import completions, make_tokenizer, write

from neo_keras.errors import InputError
from neo_keras.text import examples
from neo_keras.text.corpus import open_corpus

TOKENIZER = make_tokenizer()
GOOD = {"messages": [{"role": "user", "content": "you"}, {"role": "assistant", "content": "the"}]}
PAIR = {"prompt": "you", "completion": " the"}
TEXT = {"text": "you"}


def said(*messages):
    return {"messages": [dict(zip(("role", "content"), message)) for message in messages]}


def conversation(message):
    """With one more message, the third."""
    return {"messages": [*GOOD["messages"], message]}


def user(content):
    return conversation({"role": "user", "content": content})


# Name -> (records of a .jsonl file, what the message must say; its line is that of the last one).
FILES = {
    "no object": ([PAIR, "[1]"], "expected a JSON object"),
    "broken": ([PAIR, '{"prompt": "a", "completion": "b'], "expected a JSON object"),
    "two on a line": ([PAIR, "{} {}"], "expected a JSON object"),
    "too deep": ([PAIR, '{"messages": ' + "[" * 100_000], "expected a JSON object"),
    "unknown keys": ([{"instruction": "a", "output": "b"}],
                     "'messages', 'prompt' and 'completion', or 'text', got 'instruction'"),
    "no keys": ([PAIR, {}], "or 'text', got none"),
    "only a prompt": ([{"prompt": "a"}], "expected 'messages', .*, got 'prompt'"),
    "no completion": ([PAIR, {"prompt": "a"}], "expected 'messages', .*, got 'prompt'"),
    "completion of null": ([PAIR, {**PAIR, "completion": None}], "in 'completion', got 'null'"),
    "completion of a list": ([{**PAIR, "completion": ["a"]}], "a text in 'completion', got"),
    "prompt of messages": ([{**PAIR, "prompt": GOOD["messages"]}], "a text in 'prompt', got"),
    "empty completion": ([PAIR, {**PAIR, "completion": " \n"}], "'completion', got an empty one"),
    "empty prompt": ([{**PAIR, "prompt": ""}], "a text in 'prompt', got an empty one"),
    "half a pair": ([PAIR, '{"prompt": "a \\ud83d", "completion": "b"}'],
                    r"half a surrogate pair in 'a \\ud83d'"),
    "half a pair in a text": ([TEXT, '{"text": "\\ude00"}'], "half a surrogate pair"),
    "text of a number": ([TEXT, {"text": 3}], "expected a text in 'text', got '3'"),
    "mixed": ([PAIR, GOOD], "prompts with completions only, as before it, got conversations"),
    "mixed with text": ([GOOD, TEXT], "expected conversations only, as before it, got documents"),
    "mixed in a text": ([TEXT, {**PAIR}], "expected documents only, as before it, got prompts"),
    "messages of text": ([{"messages": "Hi"}], "expected a list of messages, got 'Hi'"),
    "messages of nothing": ([{"messages": []}], "expected a list of messages, got"),
    "messages of null": ([GOOD, {"messages": None}], "expected a list of messages, got 'null'"),
    "message of text": ([GOOD, conversation("you")], "and 'content' in message 3, got 'you'"),
    "no content": ([GOOD, conversation({"role": "user"})], "in message 3, got 'role';"),
    "no role": ([conversation({"from": "human", "value": "a"})], "message 3, got 'from', 'value'"),
    "a tool call": ([conversation({"role": "assistant", "content": "a", "tool_calls": []})],
                    "in message 3, got 'role', 'content', 'tool_calls'"),
    "unknown role": ([said(("gpt", "a"))],
                     "one of system, user, assistant as the role of message 1, got 'gpt'"),
    "role of a list": ([said((["user"], "a"))], "as the role of message 1, got"),
    "no assistant": ([said(("system", "a"), ("user", "b"))], "expected a message of the assistant"),
    "content of a number": ([user(3)], "expected a text in the content of message 3, got '3'"),
    "content of null": ([user(None)], "expected a text in the content of message 3, got 'null'"),
    "empty content": ([user("")], "the content of message 3, got an empty one"),
    "content of an image": ([user([{"type": "image", "image": "a.png"}])],
                            'expected parts .* in message 3, got .*"type": "image"'),
    "content of strings": ([user(["a"])], "expected parts .* in message 3, got 'a'"),
    "half a pair in a message": ([user("\ud83d")], "half a surrogate pair"),
    "tools": ([{**GOOD, "tools": [{"name": "f"}]}], "got 'tools' too, which are not rendered"),
    "too long": ([PAIR, {**PAIR, "prompt": "a" * 500}], "an example of at most 400 charac"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(examples, "MAX_EXAMPLE_CHARS", 400)
    records, message = FILES[name]
    path = write(tmp_path / "a.jsonl", records)
    with pytest.raises(InputError, match=message) as caught:
        open_corpus([path], tokenizer=TOKENIZER)
    assert str(caught.value).startswith(f"{path}, line {len(records)}: ")
    assert len(str(caught.value)) < 500 + len(path) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "records, message",
    [
        ([PAIR], "expected two different prompts with completions at least, got 1: give more"),
        ([PAIR, PAIR, PAIR], "expected two different .* at least, got 3 that are the same"),
        (['{"text": null}', TEXT, '{"text": ""}'], "expected two different documents .*, got 1:"),
        ([], "expected examples to train on, got none in .*a.jsonl"),
    ],
)
def test_too_few(tmp_path, records, message):
    path = write(tmp_path / "a.jsonl", records)
    with pytest.raises(InputError, match=message):
        open_corpus([path], tokenizer=TOKENIZER)


def test_too_much_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "MAX_CHARS", 500)
    path = write(tmp_path / "a.jsonl", completions(40))
    with pytest.raises(
        InputError, match="line 1[0-9]: expected examples of at most 500 characters"
    ):
        open_corpus([path], tokenizer=TOKENIZER)


def test_a_file_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "MAX_EXAMPLE_CHARS", 40)
    (tmp_path / "a.txt").write_text("you")
    (tmp_path / "b.txt").write_text("you " * 11)
    with pytest.raises(InputError, match="b.txt: expected an example of at most 40 characters"):
        open_corpus([str(tmp_path)], tokenizer=TOKENIZER)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_tables_hold_documents_only(tmp_path, name):
    separator = "," if name == "a.csv" else "\t"
    (tmp_path / name).write_text(f"prompt{separator}completion\na{separator}b\n")
    with pytest.raises(InputError, match="expected a column 'text', got 'prompt', 'completion'"):
        open_corpus([str(tmp_path / name)], tokenizer=TOKENIZER)


@pytest.mark.parametrize("record", [GOOD, PAIR])
def test_from_scratch_they_are_refused(tmp_path, record):
    path = write(tmp_path / "a.jsonl", [record])
    with pytest.raises(InputError, match="line 1: expected a column 'text', got .* for --from"):
        open_corpus([path])


def test_a_column_makes_documents_of_all(tmp_path):
    path = write(tmp_path / "a.jsonl", [{**GOOD, "story": "a"}, {**PAIR, "story": "b"}])
    corpus = open_corpus([path], "story", tokenizer=TOKENIZER)
    assert {e.content for e in [*corpus.training, *corpus.validation]} == {"a", "b"}


def test_files_that_others_may_have_written_are_right(tmp_path):
    """Of Hugging Face's form; also with parts, white space and empty lines."""
    parts = [{"type": "text", "text": "y"}, {"type": "text", "text": "ou"}]
    lines = [json.dumps(GOOD), "", json.dumps(user(parts), indent=None), "  "]
    path = write(tmp_path / "a.jsonl", lines)
    corpus = open_corpus([path], tokenizer=TOKENIZER)
    messages = max((e.content for e in [*corpus.training, *corpus.validation]), key=len)
    assert messages == [*GOOD["messages"], {"role": "user", "content": "you"}]
