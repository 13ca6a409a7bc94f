"""Whatever stands for a value in config.json or in a GGUF file: taken, or refused in one line."""

import json

import pytest
import tiny_llama

from neo_keras.errors import InputError
from neo_keras.weights import gguf as ours
from neo_keras.weights.gguf import write_gguf
from neo_keras.weights.huggingface import write_folder
from neo_keras.weights.open import open_pretrained

ODD = (None, True, -1, 0, 1.5, 10**30, "", "x", [], [[1]], ["x", {}], {}, {"x": [1]})
NEO = {"model_type": "gpt_neo", "activation_function": "gelu_new", "window_size": 7,
       "attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "local"],
       "num_layers": 2, "num_heads": 4, "layer_norm_epsilon": 1e-5}  # fmt: skip


def refused_or_taken(path):
    try:
        open_pretrained(path).load_model()
    except InputError as error:
        assert "\n" not in str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "llama"
    write_folder(path, *tiny_llama.make("huggingface"))
    return path


@pytest.mark.parametrize("more", [{}, NEO], ids=["llama", "gpt_neo"])
@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_config(folder, more, odd):
    config = folder / "config.json"
    usual = json.loads(config.read_text())
    fields = {**usual, "layer_types": ["full_attention"], "rope_interleaved": False, **more}
    try:
        for key in fields:
            config.write_text(json.dumps({**fields, key: odd}))
            refused_or_taken(folder)
        for key in fields["rope_parameters"]:
            rope = {**fields["rope_parameters"], "partial_rotary_factor": 1.0, key: odd}
            config.write_text(json.dumps({**fields, "rope_parameters": rope}))
            refused_or_taken(folder)
    finally:
        config.write_text(json.dumps(usual))


GGUF_ODD = (True, 0, 2**32 - 1, 1.5, "", "x", ["x"], [1, 2], [1.5])


@pytest.mark.parametrize("odd", GGUF_ODD, ids=range(len(GGUF_ODD)))
def test_gguf(odd, tmp_path, monkeypatch):
    parts, path = tiny_llama.make("gguf"), tmp_path / "m.gguf"
    fields, tokenizer_fields = ours._fields, ours.gguf_fields_from
    names = [*fields(ours.ARCHITECTURES["llama"], parts[1].config), *tokenizer_fields(parts[2])]
    for name in names:
        monkeypatch.setattr(ours, "_fields", lambda *a, n=name: _with(fields(*a), n, odd))
        monkeypatch.setattr(
            ours, "gguf_fields_from", lambda *a, n=name: _with(tokenizer_fields(*a), n, odd)
        )
        write_gguf(path, *parts)
        refused_or_taken(path)


def _with(fields, name, value):
    return {**fields, name: value} if name in fields else fields
