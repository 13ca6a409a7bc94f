"""Commands that are proposed to a person: they work as they stand when pasted into a shell."""

import contextlib
import shlex

from neo_keras.errors import InputError
from neo_keras.text.chat import ASSISTANT, render
from neo_keras.text.pairs import parse_pairs

MAX_WORDS, MAX_CHARS = 3, 40  # of a prompt
SPECIAL = set('$`\\!"')  # to a shell, within double quotes


def quoted(path):
    """A path as one word of a shell, which no program takes for an option."""
    path = str(path)
    return _quote(f"./{path}" if path.startswith("-") else path)


def _quote(text):
    # shlex.quote writes an apostrophe as five characters, which no person reads.
    return f'"{text}"' if "'" in text and not SPECIAL & set(text) else shlex.quote(text)


def generate_command(model, text, tokenizer):
    """Lets a model, given by its path, write after a prompt from its validation text, or chat."""
    if _is_chat(text, tokenizer):
        return f"python generate.py {quoted(model)} --chat"
    prompt, option = example_prompt(text, tokenizer), ""
    if prompt:
        option = f" --prompt{'=' if prompt.startswith('-') else ' '}{_quote(prompt)}"
    return f"python generate.py {quoted(model)}{option}"


def _is_chat(text, tokenizer):
    """Whether a text has what the chat template writes between a question and its answer."""
    if tokenizer.config.chat_template is None:
        return False
    try:
        rendered = render(tokenizer.config, [_said("user", "hello"), _said(ASSISTANT, "probe")])
    except InputError:
        return False
    _, _, between = rendered.partition("hello")
    marker = between.partition("probe")[0].strip()
    return bool(marker) and marker in text


def _said(role, content):
    return {"role": role, "content": content}


def example_prompt(text, tokenizer):
    """The first words of a known line of validation text or, of pairs, a source; "" if none."""
    # The first line may begin amid a word.
    _, *lines = text.replace(tokenizer.document_end, "\n").split("\n")
    prompts = (" ".join(line.split()[:MAX_WORDS])[:MAX_CHARS].rstrip() for line in lines)
    if tokenizer.end_token_id is not None:  # of pairs, or of documents: those are plain text
        with contextlib.suppress(InputError):
            sources = [source.strip() for source, _ in parse_pairs(text)]
            prompts = sorted(sources, key=lambda source: len(source) > MAX_CHARS)
    for prompt in prompts:
        if prompt and prompt.isprintable() and not tokenizer.unknown_in(prompt):
            return prompt
    return ""
