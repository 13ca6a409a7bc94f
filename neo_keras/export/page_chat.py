"""A chat template as strings to join: the web page has no Jinja."""

from neo_keras.errors import InputError
from neo_keras.text.chat import ASSISTANT, encode_conversation, end_of_turn_ids, render

_NO_STRINGS = "the chat template is more than strings around the messages"
_CONTENTS = ("Hello there.", "A  b:\n\n- c", "日本語?", "7 × 6 = 42", "why", "é")


def chat_strings(tokenizer):
    """What the page joins to what the chat template of a `Tokenizer` renders.

    Returns:
        dict: `begin`, before the first user's content; `system`, [before a system message, between
        it and the first user's content] or None; `ask`, after a user's content, where an answer
        begins; `space`, which the template writes before an answer; `end`, after an answer, with
        the token that ends it; `next`, from there to the next user's content; `trims`, whether an
        answer is stripped; `end_ids`; and `marks`, what the tokenizer must see before an answer and
        after one, or None where it makes no difference.

    Raises:
        InputError: there is no template, or it is no such one: it says why.
    """
    strings = _derive(tokenizer)
    for system in (None, *(["Be kind."] if strings["system"] else [])):
        for num_turns in (1, 2, 3):
            messages = _messages(*_CONTENTS[: 2 * num_turns - 1], system=system)
            if joined(strings, messages) != render(tokenizer.config, messages, True):
                raise InputError(_NO_STRINGS)
            encode_conversation(tokenizer, messages, add_generation_prompt=True)
    return strings


def joined(strings, messages):
    """A conversation that ends with a user's message, as the page joins it."""
    text, before = "", strings["begin"]
    if messages[0]["role"] == "system":
        text, messages = strings["system"][0] + messages[0]["content"], messages[1:]
        before = strings["system"][1]
    for message in messages:
        if message["role"] == ASSISTANT:
            text += strings["space"] + message["content"] + strings["end"]
            before = strings["next"]
        else:
            text += before + message["content"] + strings["ask"]
    return text


def _messages(*contents, system=None):
    roles = ["user", ASSISTANT] * len(contents)
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents)]
    return [{"role": "system", "content": system}] * (system is not None) + messages


def _derive(tokenizer):
    def rendered(*contents, **options):
        ends_with_user = len(contents) % 2 == 1
        return render(tokenizer.config, _messages(*contents, **options), ends_with_user)

    begin, ask = _cut(rendered("Q1"), "Q1")
    whole = rendered("Q1", "A1", "Q2")
    _, space, rest = _cut(whole.removesuffix(ask), "Q1", "A1")
    after, _ = _cut(rest, "Q2")
    ends = [tokenizer.decode([token_id]) for token_id in end_of_turn_ids(tokenizer)]
    end = next((end for end in ends if after.lstrip().startswith(end)), None)
    if not space.startswith(ask):
        raise InputError(_NO_STRINGS)
    if end is None:
        raise InputError("no token ends an assistant's turn in the chat template")
    place = after.index(end) + len(end)
    try:
        system = list(_cut(rendered("Q1", system="S1"), "S1", "Q1")[:2])
    except InputError:
        system = None  # no such role
    marks = [_last_token(tokenizer, text) for text in (ask, after[:place])]
    return {
        "begin": begin, "system": system, "ask": ask, "space": space.removeprefix(ask),
        "end": after[:place], "next": after[place:],
        "trims": rendered("Q1", "  A1  ", "Q2") == whole,
        "end_ids": list(end_of_turn_ids(tokenizer)),
        "marks": marks if tokenizer.adds_prefix else None,
    }  # fmt: skip


def _cut(text, *contents):
    """The parts of a text before, between and after contents that stand in it once each."""
    parts = []
    for content in contents:
        if text.count(content) != 1:
            raise InputError("the chat template does not write each message once")
        part, _, text = text.partition(content)
        parts.append(part)
    return (*parts, text)


def _last_token(tokenizer, text):
    """The added token that a text ends with, or else its last character."""
    contents = [token.content for token in tokenizer.added_tokens.values()]
    return max(filter(text.endswith, contents), key=len, default=text[-1:])
