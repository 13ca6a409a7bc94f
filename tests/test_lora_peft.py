"""Adapters, in and out, against Hugging Face's library PEFT."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="PEFT needs PyTorch: pip install torch")
pytest.importorskip("transformers", reason="pip install transformers")
pytest.importorskip("peft", reason="pip install peft")

import foreign_models
import peft
import torch
from safetensors.numpy import load_file
from tolerances import assert_close

from neo_keras.lora_config import LoraConfig
from neo_keras.model.lora import adapters, add_lora, merge_lora
from neo_keras.weights.open import open_pretrained
from neo_keras.weights.peft import Adapter, write_adapter

pytestmark = pytest.mark.exhaustive

ADDITIONS = 2 * 3 * (60 + 60 + 41 + 60)  # of three blocks: a product with A for each of a kernel
NAMES = ["gpt2", "gpt_neo", "gpt_neox", "llama", "llama-tied", "qwen2", "qwen3", "arcee"]
# What PEFT is given: all matrices of a block, or some of those that are one of ours.
TARGETS = {
    "gpt2": (["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"], ["c_attn"]),
    "gpt_neo": (["q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"], ["v_proj", "c_fc"]),
    "gpt_neox": (
        ["query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h"],
        ["query_key_value"],
    ),
    "arcee": (["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"], ["q_proj"]),
}
LLAMA = (
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    ["q_proj", "v_proj", "up_proj"],
)


def token_ids():
    shape = 2, foreign_models.SEQ_LEN
    return np.random.default_rng(3).integers(foreign_models.VOCAB_SIZE, size=shape).astype("int32")


def targets_of(name):
    return TARGETS.get(name, LLAMA)


def randomize_torch(model):
    torch.manual_seed(9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))


@pytest.fixture
def base(request, tmp_path):
    """(name, model of transformers, its folder)."""
    foreign = foreign_models.make(request.param)
    foreign_models.save(foreign, tmp_path / "base")
    foreign.name_or_path = str(tmp_path / "base")
    return request.param, foreign, tmp_path / "base"


@pytest.mark.parametrize("some", [0, 1])
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("base", NAMES, indirect=True)
def test_in(base, some, rslora, tmp_path, record_property):
    name, foreign, folder = base
    targets = targets_of(name)[some]
    config = peft.LoraConfig(
        r=3, lora_alpha=7, target_modules=targets, use_rslora=rslora, task_type="CAUSAL_LM",
        fan_in_fan_out=name == "gpt2",
    )  # fmt: skip
    model = peft.get_peft_model(foreign, config)
    randomize_torch(model)
    model.save_pretrained(tmp_path / "adapter")
    plain = open_pretrained(folder).load_model()
    expected = foreign_models.logits_of(model, token_ids())
    got = np.asarray(open_pretrained(tmp_path / "adapter").load_model()(token_ids()))
    assert_close(got, expected, ADDITIONS)
    assert np.abs(np.asarray(plain(token_ids())) - expected).max() > 0.05
    difference = np.abs(got - expected).max()
    record_property("summary", f"PEFT {name} {targets}: in, logits differ by {difference:.1e}")


@pytest.mark.parametrize("targets", ["all", "attention"])
@pytest.mark.parametrize("base", NAMES, indirect=True)
def test_out_and_in_again(base, targets, tmp_path, record_property):
    name, foreign, folder = base
    pretrained = open_pretrained(folder)
    model, architecture = pretrained.load_model(), pretrained.architecture
    lora = LoraConfig(3, 7.0, targets, architecture.has_fused_qkv)
    add_lora(model, lora)
    rng = np.random.default_rng(13)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    expected = np.asarray(model(token_ids()))
    assert_close(np.asarray(merge_lora(model)(token_ids())), expected, ADDITIONS)
    factors = {(i, name): adapter.factors() for i, name, adapter in adapters(model)}
    out = tmp_path / "adapter"
    write_adapter(out, Adapter(str(folder), architecture, model.config, lora, factors))

    theirs = peft.PeftModel.from_pretrained(foreign, out)
    got = foreign_models.logits_of(theirs, token_ids())
    assert_close(got, expected, ADDITIONS)
    difference = np.abs(got - expected).max()
    record_property("summary", f"PEFT {name} {targets}: out, logits differ by {difference:.1e}")
    again = open_pretrained(out).load_model()
    assert_close(np.asarray(again(token_ids())), expected, ADDITIONS)

    # What PEFT itself writes of it is the same, and so are the modules.
    theirs.save_pretrained(tmp_path / "theirs")
    ours, saved = (
        load_file(folder / "adapter_model.safetensors") for folder in (out, tmp_path / "theirs")
    )
    assert ours.keys() == saved.keys()
    for tensor in ours:
        np.testing.assert_array_equal(ours[tensor], saved[tensor], tensor)
    config = json.loads((out / "adapter_config.json").read_text())
    saved = json.loads((tmp_path / "theirs" / "adapter_config.json").read_text())
    assert {key: saved[key] for key in config.keys() - {"target_modules", "inference_mode"}} == {
        key: config[key] for key in config.keys() - {"target_modules", "inference_mode"}
    }
    assert sorted(saved["target_modules"]) == config["target_modules"]


@pytest.mark.parametrize("base", ["llama", "gpt2"], indirect=True)
def test_training_is_that_of_peft(base):
    """The same adapters, batch and SGD step: the same adapters after it."""
    import keras

    name, foreign, folder = base
    pretrained = open_pretrained(folder)
    model = pretrained.load_model()
    lora = LoraConfig(3, 7.0, "all", pretrained.architecture.has_fused_qkv)
    add_lora(model, lora)
    config = peft.LoraConfig(
        r=3, lora_alpha=7, target_modules=targets_of(name)[0], fan_in_fan_out=name == "gpt2"
    )
    theirs = peft.get_peft_model(foreign.eval(), config)
    randomize_torch(theirs)
    modules = dict(theirs.named_modules())
    ours_to_theirs = {
        "llama": {"qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
                  "output": ["self_attn.o_proj"], "expand": ["mlp.gate_proj", "mlp.up_proj"],
                  "contract": ["mlp.down_proj"]},
        "gpt2": {"qkv": ["attn.c_attn"], "output": ["attn.c_proj"], "expand": ["mlp.c_fc"],
                 "contract": ["mlp.c_proj"]},
    }[name]  # fmt: skip
    blocks = (
        "base_model.model.model.layers" if name == "llama" else "base_model.model.transformer.h"
    )

    def factors_of_torch():
        for i, kernel, adapter in adapters(model):
            names = ours_to_theirs[kernel]
            layers = [modules[f"{blocks}.{i}.{module}"] for module in names]
            a = [layer.lora_A["default"].weight.detach().numpy().T for layer in layers]
            b = [layer.lora_B["default"].weight.detach().numpy().T for layer in layers]
            yield adapter, np.concatenate(a, axis=1), b

    for adapter, a, b in factors_of_torch():
        adapter.a.assign(a)
        adapter.b.assign(np.concatenate(b, axis=1))
    ids = token_ids()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss)
    model.fit(ids[:, :-1], ids[:, 1:], batch_size=2, epochs=2, shuffle=False, verbose=0)
    optimizer = torch.optim.SGD([p for p in theirs.parameters() if p.requires_grad], lr=0.5)
    before = [a.copy() for _, a, _ in factors_of_torch()]
    for _ in range(2):
        inputs = torch.tensor(ids).long()
        theirs(input_ids=inputs, labels=inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for (adapter, a, b), earlier in zip(factors_of_torch(), before, strict=True):
        np.testing.assert_allclose(np.asarray(adapter.a), a, rtol=0, atol=1e-5)
        assert np.abs(a - earlier).max() > 1e-3
        expected_b = np.concatenate(b, axis=1)
        np.testing.assert_allclose(np.asarray(adapter.b), expected_b, rtol=0, atol=1e-5)
