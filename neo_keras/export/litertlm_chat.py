"""A chat template for LiteRT-LM, whose engine is minijinja, and the tokens that end a turn.

It gives content as a list of parts, and no names of tokens. Nor has it Jinja's `%` of texts and
`break` and `continue` of loops: of these a template fails there, see `check_conversation`.
"""

import json
import re
import warnings

from neo_keras.errors import InputError
from neo_keras.generation.chat import Conversation
from neo_keras.generation.sampler import GREEDY
from neo_keras.text.chat import end_of_turn_ids

# A base model continues the text that it is given: no roles, nothing added.
PROMPT_TEMPLATE = (
    "{%- for message in messages -%}{%- if message.content is string -%}{{ message.content }}"
    "{%- else -%}{%- for part in message.content -%}{{ part.text }}{%- endfor -%}{%- endif -%}"
    "{%- endfor -%}"
)
# Makes of `messages` what templates for transformers expect.
_PLAIN_MESSAGES = (
    "{%- set plain = namespace(messages=[]) -%}{%- for message in messages -%}{%- set text -%}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}"
    "{%- for part in message.content -%}{{ part.text }}{%- endfor -%}{%- endif -%}{%- endset -%}"
    '{%- set plain.messages = plain.messages + [{"role": message.role, "content": text}] -%}'
    "{%- endfor -%}{%- set messages = plain.messages -%}"
)
_GENERATION = re.compile(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})")
_MESSAGE, _ANSWER_TOKENS = "Hello", 12  # of the check


def prompt_template(config):
    """The template of a `TokenizerConfig` for LiteRT-LM."""
    if config.chat_template is None:
        return PROMPT_TEMPLATE
    # Where LiteRT-LM begins each text with a token, the template shall not do it again.
    tokens = {"bos_token": "" if config.add_bos_token else config.bos_token or "",
              "eos_token": config.eos_token or ""}  # fmt: skip
    names = "".join(f"{{%- set {name} = {json.dumps(t)} -%}}" for name, t in tokens.items())
    template = _GENERATION.sub(
        lambda tag: f"{tag[1]}{'endif' if tag[2] else 'if true'}{tag[3]}", config.chat_template
    )
    return names + _PLAIN_MESSAGES + template


def stop_ids(tokenizer):
    """The tokens that end a text or, by the chat template, a turn."""
    try:
        return end_of_turn_ids(tokenizer)
    except InputError:  # no template, or one that renders nowhere
        return tokenizer.end_token_ids


def check_conversation(runtime, engine, tokenizer, must_agree):
    """Warns unless LiteRT-LM answers a message as `Conversation` does.

    Args:
        runtime: `litertlm.LiteRTLM`; engine: the `Engine` of the same model in Keras.
        must_agree: the two compute the same numbers, so that the answers must be equal.
    """
    try:
        answer = Conversation(engine, tokenizer).answer(_MESSAGE, _ANSWER_TOKENS, GREEDY)
        expected = "".join(answer)
    except InputError:
        return  # there is no template, or the context is too short
    try:
        text = runtime.answer_greedily(_MESSAGE, _ANSWER_TOKENS)
    except RuntimeError:
        problem = "fails to render it"
    else:
        if not must_agree or text.partition("\ufffd")[0] == expected.partition("\ufffd")[0]:
            return
        problem = f"answers {text!r} where the Keras model answers {expected!r}"
    warnings.warn(
        f"LiteRT-LM has trouble with the model's chat template ({problem}): its conversations need "
        "another one, as `litert-lm run` takes with --chat-template",
        stacklevel=2,
    )
