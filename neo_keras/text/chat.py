"""Chat templates: a conversation as text, and as token ids of which some are trained."""

import functools

from neo_keras.errors import InputError, shortened
from neo_keras.text.sandbox import render_template
from neo_keras.text.template_work import MAX_WIDTH, TooMuchWork, TooWide
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig

ASSISTANT = "assistant"
_FIX = "correct the conversation, or the chat_template of tokenizer_config.json"
_PROBE = "probe"  # what an assistant says to find out what the template writes after it


class ChangedTurnsError(InputError):
    """A chat template writes earlier turns in another way once there are more."""


def render(
    config: TokenizerConfig, messages: list[dict], add_generation_prompt: bool = False
) -> str:
    """Renders a conversation as transformers' `apply_chat_template` does.

    Args:
        messages: Each a dict of JSON values with at least `role` and `content`.
        add_generation_prompt: End with what comes before an assistant's answer.

    Raises:
        InputError: There is no template, or it refuses this conversation, is damaged or hostile.
    """
    if config.chat_template is None:
        raise InputError(
            "the model has no chat template, so it knows no roles: give one that was trained for "
            "chat, or put a chat_template.jinja beside its tokenizer.json"
        )
    tokens = {"bos_token": config.bos_token, "eos_token": config.eos_token}
    variables = {
        **{name: token for name, token in tokens.items() if token is not None},
        "messages": [_plain_message(message) for message in messages],
        "add_generation_prompt": add_generation_prompt,
        "tools": None,
        "documents": None,
    }
    try:
        return render_template(config.chat_template, variables)
    except TooMuchWork:
        problem = "takes too much time or memory"
    except TooWide:
        problem = f"has a width or an indent that is too large (of values, {MAX_WIDTH} at most)"
    except Exception as error:  # a template can raise any
        said = " ".join(str(getattr(error, "message", None) or error).split())
        problem = f"says {shortened(said or type(error).__name__)}"
    raise InputError(f"expected a chat template that renders, got one that {problem}: {_FIX}")


def _plain_message(message):
    """A copy of a message without what is None, as transformers makes it; or `InputError`."""
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise InputError(
            f'expected a message such as {{"role": "user", "content": "Hello"}}, got '
            f"{shortened(repr(message))}: correct it"
        )
    return {key: _plain(value) for key, value in message.items() if value is not None}


def _plain(value):
    """A copy of a JSON value: a template shall meet no other methods than those of its types."""
    match value:
        case None | bool():
            return value
        case str() | int() | float():
            kind = next(kind for kind in (str, int, float) if isinstance(value, kind))
            return kind(value)
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    raise InputError(f"expected messages of JSON values, got a {type(value).__name__}: convert it")


def encode_conversation(
    tokenizer: Tokenizer, messages: list[dict], add_generation_prompt: bool = False
) -> list[tuple[list[int], bool]]:
    """Encodes a conversation in segments, of which the assistant's turns are trained.

    An assistant's turn ends with the token that ends it, where the template has one. A line break
    after that belongs to the next segment. No token is added to what the template writes.

    Returns:
        list of (token ids, whether they are trained), which together are the conversation.

    Raises:
        InputError: As `render`; or the template changes what came before when a turn is added.
    """
    # Segments are encoded apart. In one piece, the last characters of a prompt and the first ones
    # of the answer could become one token, as two line breaks do: but who generates encodes the
    # prompt alone, and so would never be where training was. Where the border is one for the
    # tokenizer, as before a word or after a special token, the ids are those of one piece.
    segments, done = [], ""

    def add(text, is_trained):
        nonlocal done
        token_ids = _encode_after(tokenizer, done, text[len(done) :])
        if is_trained:
            token_ids, text = _until_end_of_turn(tokenizer, token_ids, done, text)
        segments.append((token_ids, is_trained))
        done = text

    for i, message in enumerate(messages):
        if _plain_message(message)["role"] == ASSISTANT:
            try:
                prompt = render(tokenizer.config, messages[:i], add_generation_prompt=True)
                full = render(tokenizer.config, messages[: i + 1])
                _check_grows(done, prompt, full)
            except InputError as error:
                raise _with_its_reason(error, messages[:i]) from None
            add(prompt, False)
            add(full, True)
    rest = render(tokenizer.config, messages, add_generation_prompt)
    _check_grows(done, rest)
    add(rest, False)
    return [segment for segment in segments if segment[0]]


def encode_prompt(tokenizer: Tokenizer, messages: list[dict]) -> list[int]:
    """The token ids before an assistant's next answer, as `encode_conversation` makes them.

    A template that changes earlier turns, such as one that leaves out what an assistant thought,
    is encoded in one piece.
    """
    try:
        segments = encode_conversation(tokenizer, messages, add_generation_prompt=True)
    except ChangedTurnsError:
        return tokenizer.encode(render(tokenizer.config, messages, True)).tolist()
    return [token_id for token_ids, _ in segments for token_id in token_ids]


def _with_its_reason(error, before):
    """What to raise of an error in an assistant's turn, given the messages before it."""
    if any(message["role"] == "user" for message in before):
        return error
    return InputError(
        "expected a user's message before the assistant's first one, without which this chat "
        f"template cannot be used: take that one out, or add one before it ({error})"
    )


def _check_grows(*texts):
    for shorter, longer in zip(texts, texts[1:]):
        if not longer.startswith(shorter):
            raise ChangedTurnsError(
                "expected a chat template that adds a turn at the end, got one that changes "
                "earlier turns: give conversations with one answer each, or another template"
            )


def _encode_after(tokenizer, before, text):
    """The token ids of a text that goes on after another one."""
    if before and text and tokenizer.adds_prefix:  # to the beginning of a text, and this is none
        contents = [token.content for token in tokenizer.added_tokens.values()]
        last = max(filter(before.endswith, contents), key=len, default=before[-1])
        for mark in (last, "\n"):
            mark_ids, token_ids = (tokenizer.encode(t).tolist() for t in (mark, mark + text))
            if token_ids[: len(mark_ids)] == mark_ids:
                return token_ids[len(mark_ids) :]
    return tokenizer.encode(text).tolist()


def _until_end_of_turn(tokenizer, token_ids, done, text):
    """Shortens the ids of an answer, and the text so far, to the token that ends the turn."""
    ends = end_of_turn_ids(tokenizer)
    place = max((i for i, token_id in enumerate(token_ids) if token_id in ends), default=None)
    if place is None:
        text = text.rstrip("\n")
        return _encode_after(tokenizer, done, text[len(done) :]), text
    if token_ids[place + 1 :]:  # else some tokens take the line break after them along
        token = tokenizer.decode([token_ids[place]])
        text = text[: text.rindex(token) + len(token)]
    return token_ids[: place + 1], text


@functools.lru_cache(maxsize=4)
def end_of_turn_ids(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that end an assistant's turn.

    They are the special token that the template writes after what an assistant says, if it does,
    and those that end any text.
    """
    turns = [("user", "hello"), (ASSISTANT, _PROBE)]
    messages = [{"role": role, "content": content} for role, content in turns]
    _, _, after = render(tokenizer.config, messages).rpartition(_PROBE)
    added = tokenizer.added_tokens.items()
    first = [(t.content, i) for i, t in added if after.lstrip().startswith(t.content)]
    first = [max(first, key=lambda token: len(token[0]))[1]] if first else []
    return tuple(dict.fromkeys([*first, *tokenizer.end_token_ids]))
