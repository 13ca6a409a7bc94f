"""Conversations in LiteRT-LM: its API and its command line answer as `generate.py --chat` does."""

import dataclasses
import re
import shutil
import warnings

import litert_lm
import pytest
from chat_templates import TEMPLATES, chat_tokenizer, conversation
from test_litert_lm_cli import environment  # noqa: F401
from test_litert_lm_cli import litert_lm as command_line
from tiny_models import make_run

from neo_keras.export import exporter
from neo_keras.export.litertlm import LiteRTLM
from neo_keras.export.litertlm_chat import prompt_template, stop_ids
from neo_keras.generation.chat import Conversation
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.text.chat import render

MESSAGES = ["the a", "a's 12", "the the"]
# What minijinja lacks: `%` of texts, and `continue`.
FAIL_THERE = {"headers", "roles"}


def test_every_end_is_a_stop_token():
    tokenizer = chat_tokenizer("chatml", extra_eos_tokens=("<|user|>",))
    ends = [tokenizer.decode([i]) for i in stop_ids(tokenizer)]
    assert ends == ["<|im_end|>", "</s>", "<|user|>"]
    assert stop_ids(chat_tokenizer(None)) == [tokenizer.end_token_id]


def test_the_template_takes_parts_of_content_too():
    """It renders in our Jinja as well, and there it is the same."""
    config = chat_tokenizer("chatml").config
    theirs = dataclasses.replace(config, chat_template=prompt_template(config))
    assert "generation %}" not in theirs.chat_template
    messages = conversation("Hi", "Yes", system="S")
    parts = [
        {"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in messages
    ]
    assert render(theirs, messages) == render(theirs, parts) == render(config, messages)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_same_conversation(name, tmp_path, environment):  # noqa: F811
    tokenizer = chat_tokenizer(name)
    text = render(tokenizer.config, conversation("the a", "the 12 a's")) * 60
    run = make_run(tmp_path / "run", 40, text, tokenizer, num_layers=1, max_seq_len=211)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exporter.export_run(run, ["litertlm"], ["float32"])
    said = [str(w.message) for w in caught if "LiteRT-LM has trouble" in str(w.message)]
    if name in FAIL_THERE:
        assert len(said) == 1 and "(fails to render it)" in said[0]
        return
    assert said == []
    bundle = run.export / "model-float32.litertlm"
    engine, tokenizer = load_engine(run.path)
    ours = Conversation(engine, tokenizer)
    expected = ["".join(ours.answer(message, 12, GREEDY)) for message in MESSAGES]
    greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
    options = {"sampler_config": greedy, "max_output_tokens": 12}
    with LiteRTLM(bundle) as runtime, runtime.create_conversation(**options) as theirs:
        assert [str(theirs.send_message(message)) for message in MESSAGES] == expected
    # Its command line keeps files beside the bundle.
    bundle = shutil.copy(bundle, tmp_path)
    answer = command_line(environment, "run", bundle, "--prompt", MESSAGES[0])
    assert re.match(re.escape(expected[0].strip()), answer.strip())
