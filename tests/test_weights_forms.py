"""The forms that files have: shards, bfloat16, quantized GGUF."""

import json

import gguf
import ml_dtypes
import numpy as np
import pytest
import tiny_llama
from safetensors.numpy import load_file, save_file

from neo_keras.errors import InputError
from neo_keras.weights.gguf import write_gguf
from neo_keras.weights.huggingface import INDEX, WEIGHTS, write_folder
from neo_keras.weights.open import describe_pretrained, open_pretrained

NORM = "model.layers.1.input_layernorm.weight"


@pytest.fixture(scope="module")
def made():
    return tiny_llama.make("huggingface")


@pytest.fixture
def folder(made, tmp_path):
    write_folder(tmp_path / "llama", *made)
    return tmp_path / "llama"


def weights_of(model):
    return {v.path.split("/", 1)[1]: np.array(v) for v in model.trainable_variables}


def test_shards(made, folder):
    tensors = load_file(folder / WEIGHTS)
    places = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        save_file({n: t for n, t in tensors.items() if places[n] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / WEIGHTS).unlink()
    expected = weights_of(made[1])
    for path, array in weights_of(open_pretrained(folder).load_model()).items():
        np.testing.assert_array_equal(array, expected[path], path)


def test_bfloat16(folder):
    """A number of bfloat16 is the upper half of the bits of a float32."""
    tensors = load_file(folder / WEIGHTS)
    rounded = (tensors[NORM].view("uint32") & 0xFFFF0000).view("float32")
    save_file({**tensors, NORM: rounded.astype(ml_dtypes.bfloat16)}, folder / WEIGHTS)
    model = open_pretrained(folder).load_model()
    np.testing.assert_array_equal(model.blocks[1].attention_norm.scale, rounded)


def test_what_is_harmless_is_taken(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"torch_dtype": "bfloat16", "some_switch": False, "use_cache": True}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / WEIGHTS)
    frequencies = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(3, "float32")}
    save_file({**tensors, **frequencies}, folder / WEIGHTS)
    assert open_pretrained(folder).load_model().config.head_dim == 6


def test_a_shorter_context(folder):
    pretrained = open_pretrained(folder, 7)
    assert pretrained.config.max_seq_len == 7
    # Keys and values of 2 layers, 2 heads of 6 numbers, 4 bytes each.
    assert 2 * 2 * 2 * 6 * 4 * (19 - 7) == 2304
    assert describe_pretrained(pretrained)[1] == (
        "a context of 7 of 19 tokens: its KV cache is 0 MB smaller (--seq-len)"
    )
    with pytest.raises(InputError, match="--seq-len must be at most the context of .*, 19, got 20"):
        open_pretrained(folder, 20)


@pytest.mark.parametrize(
    ("stored_as", "error", "kinds"),
    [("F32", 0, {"F32"}), ("F16", 2**-11, {"F16", "F32"}),
     ("Q8_0", 1 / 127, {"Q8_0", "F16", "F32"})],  # heads of 6 numbers are no whole blocks
)  # fmt: skip
def test_gguf_types(stored_as, error, kinds, tmp_path):
    """Each number is off by half a step at most: of its own size, or of the largest of its 32."""
    parts = tiny_llama.make("gguf", hidden_dim=64, feed_forward_dim=96)
    write_gguf(tmp_path / "m.gguf", *parts, stored_as)
    expected = weights_of(parts[1])
    for path, array in weights_of(open_pretrained(tmp_path / "m.gguf").load_model()).items():
        allowed = error * np.abs(expected[path]).max()
        np.testing.assert_allclose(array, expected[path], rtol=0, atol=allowed, err_msg=path)
    assert {t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors} == kinds


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "BF16"])
def test_types_of_others(kind, tmp_path):
    parts = tiny_llama.make("gguf", hidden_dim=64, feed_forward_dim=96, head_dim=16)
    write_gguf(tmp_path / "m.gguf", *parts, kind)
    model = open_pretrained(tmp_path / "m.gguf").load_model()
    expected = weights_of(parts[1])["block_0/feed_forward/contract_kernel"]
    quantized = gguf.quants.quantize(expected, gguf.GGMLQuantizationType[kind])
    decoded = gguf.quants.dequantize(quantized, gguf.GGMLQuantizationType[kind])
    got = weights_of(model)["block_0/feed_forward/contract_kernel"]
    np.testing.assert_array_equal(got, decoded)
    assert 0 < np.abs(got - expected).max() < 0.2 * np.abs(expected).max()
