"""Damaged, foreign and hostile weights: one line each, and nothing is allocated or written."""

import functools
import json
import resource
import struct

import numpy as np
import pytest
import tiny_llama
import tiny_tokenizers
from folder_changes import change_json, change_tensors
from safetensors.numpy import load_file

from neo_keras.errors import InputError
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.weights.huggingface import write_folder
from neo_keras.weights.open import open_pretrained

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "llama", *tiny_llama.make("huggingface"))
    return tmp_path / "llama"


with_config = functools.partial(change_json, "config.json")
with_tensors = functools.partial(change_tensors, WEIGHTS)


def with_bytes(name, function):
    def change(folder):
        (folder / name).write_bytes(function((folder / name).read_bytes()))

    return change


def with_index(**places):
    def change(folder):
        names = load_file(folder / WEIGHTS)
        places_of_all = {**dict.fromkeys(names, WEIGHTS), **places}
        (folder / INDEX).write_text(json.dumps({"weight_map": places_of_all}))

    return change


def without(name):
    return lambda folder: (folder / name).unlink()


def header_of(content):
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text


def as_pickle(folder):
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")


TEN_TB = {"model.norm.weight": {"dtype": "F32", "shape": [2_500_000_000_000],
                                "data_offsets": [0, 10_000_000_000_000]}}  # fmt: skip
NORM = "model.layers.1.input_layernorm.weight"
ROPE = {"rope_type": "default", "rope_theta": 10000.0}

CASES = {
    "no config": (without("config.json"), "has no config.json: copy all files"),
    "no weights": (without(WEIGHTS), "has no model.safetensors: copy all files"),
    "no tokenizer": (without("tokenizer.json"), "has no tokenizer.json: copy it"),
    "a pickle": (as_pickle, "a pickle, and can run any code: convert it"),
    "truncated weights": (with_bytes(WEIGHTS, lambda b: b[:-7]), "is damaged .*: copy it again"),
    "half a header": (with_bytes(WEIGHTS, lambda b: b[:50]), "is damaged .*: copy it again"),
    "no bytes": (with_bytes(WEIGHTS, lambda b: b""), "is damaged .*: copy it again"),
    "noise": (with_bytes(WEIGHTS, lambda b: b"\xff" * 999), "is damaged .*: copy it again"),
    "a header of 16 exabytes": (
        with_bytes(WEIGHTS, lambda b: b"\xff" * 8 + b[8:]), "is damaged .*: copy it again"),
    "10 TB": (with_bytes(WEIGHTS, lambda b: header_of(TEN_TB)), "is damaged .*: copy it again"),
    "a tensor less": (with_tensors(lambda t: t.pop(NORM)), f"has no tensor {NORM}"),
    "a tensor more": (
        with_tensors(lambda t: t.update(adapter=np.ones(3, "float32"))),
        "1 tensors that its architecture does not have, such as 'adapter'"),
    "another shape": (
        with_tensors(lambda t: t.update({NORM: np.ones(21, "float32")})), "is of another shape"),
    "a turned kernel": (
        with_tensors(lambda t: t.update({
            "model.layers.0.mlp.down_proj.weight":
                t["model.layers.0.mlp.down_proj.weight"].T.copy()})),
        "is of another shape"),
    "whole numbers": (
        with_tensors(lambda t: t.update({NORM: np.ones(22, "int32")})), "numbers of type int32"),
    "config of letters": (with_bytes("config.json", lambda b: b"llama"), "config.json is damaged"),
    "config cut off": (with_bytes("config.json", lambda b: b[:99]), "config.json is damaged"),
    "config of a list": (with_bytes("config.json", lambda b: b"[1]"), "holds no JSON object"),
    "config of bytes": (with_bytes("config.json", lambda b: b"\xff{}"), "config.json is damaged"),
    "config nested without end": (
        with_bytes("config.json", lambda b: b'{"a":' * 99999), "config.json is damaged"),
    "unknown architecture": (with_config(model_type="mamba"), "has the model_type \"mamba\""),
    "no architecture": (with_config(model_type=None), "has the model_type null"),
    "architecture of a list": (with_config(model_type=["llama"]), "has the model_type"),
    "rope_scaling": (
        with_config(rope_parameters=None, rope_scaling={"type": "linear", "factor": 2}),
        "has rope_scaling = "),
    "rope of llama 3": (
        with_config(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}),
        "has rope_parameters = "),
    "rope of an unknown key": (
        with_config(rope_parameters={**ROPE, "factor": 2.0}), "has rope_parameters.factor = 2.0"),
    "no rope": (with_config(rope_parameters=None, rope_theta=None), "has no rope_theta"),
    "rope_theta of text": (
        with_config(rope_parameters={**ROPE, "rope_theta": "1e4"}), "rope_base must be of type"),
    "partial rotary": (
        with_config(rope_parameters={**ROPE, "partial_rotary_factor": 0.5}),
        "has partial_rotary_factor = 0.5"),
    "soft-capped logits": (
        with_config(final_logit_softcapping=30.0), "has final_logit_softcapping = 30.0, which"),
    "a biased attention": (with_config(attention_bias=True), "has attention_bias = true"),
    "another activation": (with_config(hidden_act="mish"), "has the hidden_act \"mish\""),
    "own code": (with_config(auto_map={"AutoModel": "evil.Model"}), "has auto_map = "),
    "no width": (with_config(hidden_size=None), "config.json has no hidden_size"),
    "a width of text": (with_config(hidden_size="22"), "hidden_dim must be of type int"),
    "a width of a billion": (with_config(hidden_size=10**9), "and the configuration asks for"),
    "a vocabulary of a billion": (with_config(vocab_size=10**9), "and the configuration asks for"),
    "heads of a billion": (with_config(num_attention_heads=10**9), "and the configuration asks"),
    "layers of a billion": (with_config(num_hidden_layers=10**9), "too few for 1000000000 layers"),
    "a layer less": (with_config(num_hidden_layers=1), "that its architecture does not have"),
    "no heads": (with_config(num_attention_heads=0, head_dim=None), "at least 1|above 0"),
    "an index that leaves the folder": (
        with_index(**{NORM: "../../etc/model.safetensors"}), "names of files beside it"),
    "an index of an absolute path": (
        with_index(**{NORM: "/etc/passwd.safetensors"}), "names of files beside it"),
    "an index of a pickle": (with_index(**{NORM: "x.bin"}), "names of files beside it"),
    "an index of a lost file": (
        with_index(**{NORM: "model-2.safetensors"}), "model-2.safetensors is damaged"),
    "an index of a lost tensor": (with_index(**{"model.lost": WEIGHTS}), "has no 'model.lost'"),
    "another tokenizer": (
        lambda folder: Tokenizer(tiny_tokenizers.MAKE["bpe"]()).save(folder / "tokenizer.json"),
        "tokens but its model has"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_line(folder, case):
    change, message = CASES[case]
    change(folder)
    before = sorted(path.name for path in folder.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match=message) as raised:
        open_pretrained(folder).load_model()
    assert "\n" not in str(raised.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KB
    assert sorted(path.name for path in folder.iterdir()) == before
