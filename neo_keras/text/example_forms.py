"""The forms of examples: what a record of each must hold, and which of its tokens are trained."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from neo_keras.errors import InputError, shortened
from neo_keras.text.chat import ASSISTANT, encode_conversation
from neo_keras.text.formats import normalize
from neo_keras.text.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

Segments = list[tuple[list[int], bool]]  # token ids, and whether they are trained


@dataclasses.dataclass(frozen=True)
class Form:
    """One form of examples.

    Attributes:
        name: Of several of them, for people.
        keys: What each record has; of a document it is the column.
        read: Returns the content of a record, which JSON can hold; or raises `InputError`, which
            does not say where that stands.
        encode: Returns the `Segments` of a content.
        prompt: Returns a text to begin a sample with.
        question: Returns what a person reads instead of that, without the markers of a template.
        fits_rows: Whether an example that is longer than the context is cut into several rows;
            else its end is left out.
    """

    name: str
    keys: tuple[str, ...]
    read: Callable[[dict], Any]
    encode: Callable[[Tokenizer, Any], Segments]
    prompt: Callable[[Tokenizer, Any], str]
    question: Callable[[Any], str]
    fits_rows: bool = False


def checked_text(text: Any, what: str) -> str:
    """A text as all of ours are; raises `InputError` where it is none, or empty."""
    if not isinstance(text, str):
        raise InputError(f"expected a text in {what}, got {shortened(text)}")
    check_unicode(text)
    if not text.strip():
        raise InputError(f"expected a text in {what}, got an empty one")
    return normalize(text)


def check_unicode(text: str):
    """Raises `InputError` where a text has what no encoding of it would keep."""
    if place := _LONE_SURROGATE.search(text):
        found = ascii(text[max(place.start() - 9, 0) : place.end()])
        raise InputError(f"expected whole characters, got half a surrogate pair in {found}")


def _start_ids(tokenizer):
    """What the model expects before any text."""
    return [tokenizer.bos_token_id] if tokenizer.config.add_bos_token else []


def _encode_document(tokenizer, text):
    start = _start_ids(tokenizer), False
    if tokenizer.end_token_id is None:  # then what stands between documents ends them
        return [start, (tokenizer.encode(text + tokenizer.document_end).tolist(), True)]
    return [start, ([*tokenizer.encode(text).tolist(), tokenizer.end_token_id], True)]


def _read_completion(record):
    return [checked_text(record[key], repr(key)) for key in ("prompt", "completion")]


def _encode_completion(tokenizer, content):
    """The prompt by itself, as it will be when the model is asked; then what goes on from it."""
    prompt, completion = content
    parts = tokenizer.encode_parts([completion], before=prompt[-1])
    completion_ids = np.concatenate([token_ids for _, token_ids in parts]).tolist()
    end = _end_token_id(tokenizer)
    prompt_ids = [*_start_ids(tokenizer), *tokenizer.encode(prompt).tolist()]
    return [(prompt_ids, False), ([*completion_ids, end], True)]


def _end_token_id(tokenizer):
    if tokenizer.end_token_id is None:
        raise InputError(
            "expected a model whose tokenizer has a token that ends a text, got one without: name "
            "its eos_token in a tokenizer_config.json, or train on documents"
        )
    return tokenizer.end_token_id


def _read_conversation(record):
    for key in ("tools", "functions", "documents"):
        if record.get(key):
            raise InputError(f"expected messages alone, got {key!r} too, which are not rendered")
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise InputError(f"expected a list of messages, got {shortened(messages)}")
    messages = [_read_message(message, i) for i, message in enumerate(messages, 1)]
    if all(message["role"] != "assistant" for message in messages):
        raise InputError("expected a message of the assistant to train on, got none")
    return messages


def _read_message(message, number):
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        got = ", ".join(map(repr, message)) or "none" if isinstance(message, dict) else None
        raise InputError(
            f"expected 'role' and 'content' in message {number}, got {got or shortened(message)}"
        )
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise InputError(
            f"expected one of {', '.join(ROLES)} as the role of message {number}, got "
            f"{shortened(role)}"
        )
    if isinstance(content, list):
        content = "".join(_text_of_part(part, number) for part in content)
    return {"role": role, "content": checked_text(content, f"the content of message {number}")}


def _text_of_part(part, number):
    match part:
        case {"type": "text", "text": str(text)} if len(part) == 2:
            return text
    raise InputError(
        f'expected parts {{"type": "text", "text": "..."}} in message {number}, got '
        f"{shortened(part)}"
    )


def _prompt_of_conversation(tokenizer, messages):
    """What stands before the first thing that the assistant says."""
    token_ids = []
    for part_ids, is_trained in encode_conversation(tokenizer, messages):
        if is_trained:
            break
        token_ids += part_ids
    # A prompt gets this one again when it is encoded.
    begins_twice = tokenizer.config.add_bos_token and token_ids[:1] == [tokenizer.bos_token_id]
    return tokenizer.decode(token_ids[begins_twice:])


def _question_of_conversation(messages):
    """What was said last before the first thing that the assistant says."""
    place = [message["role"] for message in messages].index(ASSISTANT)
    return messages[place - 1]["content"] if place else "(the assistant begins)"


DOCUMENT = Form("documents", (), dict, _encode_document, prompt=lambda tokenizer, text: "",
                question=lambda text: "", fits_rows=True)  # fmt: skip
# By their keys, of which the first that a record has count.
RECORD_FORMS = (
    Form("conversations", ("messages",), _read_conversation,
         encode_conversation, _prompt_of_conversation, _question_of_conversation),
    Form("prompts with completions", ("prompt", "completion"), _read_completion,
         _encode_completion, prompt=lambda tokenizer, content: content[0],
         question=lambda content: content[0]),
)  # fmt: skip
