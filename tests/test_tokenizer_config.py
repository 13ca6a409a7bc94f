"""`tokenizer_config.json`: which tokens begin and end a text; it travels with the tokenizer."""

import json
import os
import re

import pytest
from imported_tokenizers import MAKE_IMPORTED, llama2
from tokenizers import processors

from neo_keras.errors import InputError
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
FULL = TokenizerConfig("</s>", "<s>", True, TEMPLATE)


def with_config(tmp_path, fields, hf=None):
    (hf or llama2()).save(str(tmp_path / "tokenizer.json"))
    text = fields if isinstance(fields, str) else json.dumps(fields)
    (tmp_path / "tokenizer_config.json").write_text(text)
    return Tokenizer.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("token", ["</s>", {"content": "</s>", "lstrip": False}])
def test_what_hugging_faces_files_say(tmp_path, token):
    fields = {"eos_token": token, "bos_token": "<s>", "add_bos_token": True, "legacy": False}
    tokenizer = with_config(tmp_path, {**fields, "chat_template": TEMPLATE, "unk_token": None})
    assert tokenizer.config == FULL
    assert (tokenizer.end_token_id, tokenizer.bos_token_id) == (2, 1)
    assert (tokenizer.start_token_id, tokenizer.document_end) == (1, "</s>")
    assert tokenizer.encode("the</s>")[-1] == 2
    assert tokenizer.encode("the")[0] != 1


def test_it_is_saved_and_loaded(tmp_path):
    tokenizer = Tokenizer(llama2(), FULL)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert sorted(os.listdir(tmp_path)) == ["tokenizer.json", "tokenizer_config.json"]
    assert Tokenizer.load(tmp_path / "tokenizer.json").config == FULL
    Tokenizer(llama2()).save(tmp_path / "tokenizer.json")
    assert os.listdir(tmp_path) == ["tokenizer.json"]
    assert Tokenizer.load(tmp_path / "tokenizer.json").config == TokenizerConfig()


@pytest.mark.parametrize("nested", [False, True])
def test_the_token_that_a_post_processor_adds(tmp_path, nested):
    hf = MAKE_IMPORTED["llama3"]()
    token_id = hf.token_to_id("<s>")
    processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", token_id)])
    if nested:
        processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processor])
    hf.post_processor = processor
    tokenizer = with_config(tmp_path, {"bos_token": "<s>"}, hf)
    assert tokenizer.config == TokenizerConfig(None, "<s>", True)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").config == tokenizer.config
    hf.save(str(tmp_path / "tokenizer.json"))
    tokenizer = with_config(tmp_path, {"add_bos_token": False}, hf)
    assert tokenizer.config == TokenizerConfig(None, "<s>", False)
    assert tokenizer.encode("the").tolist() == hf.encode("the", add_special_tokens=False).ids


def test_one_of_several_templates(tmp_path):
    templates = [{"name": "tools", "template": "x"}, {"name": "default", "template": TEMPLATE}]
    assert with_config(tmp_path, {"chat_template": templates}).config.chat_template == TEMPLATE


@pytest.mark.parametrize("fields", [
    "{", "[1]", {"eos_token": "<none>"}, {"bos_token": 3}, {"add_bos_token": "yes"},
    {"chat_template": 1}, {"chat_template": [1]},
])  # fmt: skip
def test_refused_in_one_line(tmp_path, fields):
    path = re.escape(f"{tmp_path}/tokenizer.json: expected a tokenizer_config.json")
    with pytest.raises(InputError, match=f"^{path}[^\n]*$"):
        with_config(tmp_path, fields)


def test_an_end_token_that_is_named_is_no_other():
    tokenizer = Tokenizer(llama2(), FULL).with_end_token()
    assert (tokenizer.end_token_id, tokenizer.config) == (2, FULL)
    tokenizer = Tokenizer(llama2()).with_end_token()
    assert tokenizer.document_end == "<|endoftext|>"


@pytest.mark.parametrize("bos_token", [None, {"content": None}])
def test_a_beginning_without_a_token_is_none(tmp_path, bos_token):
    tokenizer = with_config(tmp_path, {"add_bos_token": True, "bos_token": bos_token})
    assert not tokenizer.config.add_bos_token
