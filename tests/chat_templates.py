"""Chat templates with what those of well-known models use, and tokenizers that go with them."""

import tokenizers
from imported_tokenizers import MAKE_IMPORTED, metaspace

from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig

# A system message of its own where the conversation has none, as Qwen's and SmolLM2's.
CHATML = """
{%- for turn in messages %}
    {%- if loop.first and turn['role'] != 'system' %}
        {{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + turn.role + '\\n' }}
    {%- if turn.role == 'assistant' %}
        {%- generation %}{{- turn.content ~ '<|im_end|>' }}{%- endgeneration %}
    {%- else %}
        {{- turn.content ~ '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# Headers, a date, a beginning of the text; the content trimmed.
HEADERS = """{% macro header(role) %}<|start_header_id|>{{ role }}<|end_header_id|>

{% endmacro %}
{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- if messages[0].role == 'system' %}
    {%- set ns.system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{%- if date is not defined %}{% set date = strftime_now('%d %B %Y') %}{% endif %}
{{- header('system') }}
{{- 'Today: %s\\n\\n' % date ~ ns.system + '<|eot_id|>' }}
{%- for message in messages if message.role != 'tool' %}
    {{- header(message['role']) + (message['content'] | trim) + '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}{{ header('assistant') }}{% endif %}"""
# No system role; the end of an answer is the end of a text.
INSTRUCTIONS = """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 is even) %}
{{ raise_exception('Roles must take turns: user, assistant, user ...') }}
{% endif %}
{% if message['role'] == 'user' %}
{{ '[INST] ' + message['content'] + ' [/INST]' -}}
{% elif message['role'] == 'assistant' %}
{{ ' ' + message['content'] | trim + eos_token -}}
{% else %}{{ raise_exception('There is no ' ~ message.role) }}{% endif %}
{% endfor %}"""
# Another name for the assistant; the system's words stand before the first user's.
TURNS = """{{ bos_token }}
{%- if messages | length and messages[0].role == 'system' -%}
    {{ raise_exception('The role system is not known') }}
{%- endif -%}
{%- for message in messages -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' }}
    {%- if message.content is string -%}{{ message.content | trim }}
    {%- elif message.content is iterable -%}
        {%- for part in message.content -%}
            {%- if part.type == 'text' -%}{{ part.text | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"""
# Plain tokens for the roles, and lists of tools.
ROLES = """{% for message in messages %}
{% if message['role'] == 'system' and tools is not none %}
{{ tools | tojson(indent=2) }}
{% endif %}
{% if message['role'] in ['system', 'user', 'assistant'] %}
{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}
{% else %}
{% continue %}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
TEMPLATES = {
    "chatml": CHATML, "headers": HEADERS, "instructions": INSTRUCTIONS, "turns": TURNS,
    "roles": ROLES,
}  # fmt: skip
# What ends an assistant's turn.
ENDS = {
    "chatml": "<|im_end|>", "headers": "<|eot_id|>", "instructions": "</s>",
    "turns": "<end_of_turn>", "roles": "</s>",
}  # fmt: skip
HAS_SYSTEM = {"chatml", "headers", "roles"}
SPECIAL = [
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "<|system|>", "<|user|>", "<|assistant|>"),
]
# Of kinds that treat spaces at the beginning of a text in ways of their own.
MAKE_TOKENIZER = {
    "qwen2": MAKE_IMPORTED["qwen2"], "llama2": MAKE_IMPORTED["llama2"], "metaspace": metaspace,
}  # fmt: skip


def chat_tokenizer(template, kind="qwen2", **config):
    """A `Tokenizer` with one of `TEMPLATES`, or with another."""
    hf = MAKE_TOKENIZER[kind]()
    hf.add_special_tokens([tokenizers.AddedToken(t, normalized=False) for t in SPECIAL])
    config = {"chat_template": TEMPLATES.get(template, template), **config}
    return Tokenizer(hf, TokenizerConfig("</s>", "<s>", False, **config))


def conversation(*contents, system=None):
    """Messages of a user and an assistant in turn."""
    roles = ["user", "assistant"] * len(contents)
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents)]
    return [{"role": "system", "content": system}] * (system is not None) + messages
