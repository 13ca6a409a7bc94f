"""The model: the cache gives what the whole sequence gives, and files give back what was saved."""

import dataclasses
import inspect
import json
import math
import os
import pathlib

import keras
import numpy as np
import pytest
from tolerances import assert_close

from neo_keras.config import ModelConfig
from neo_keras.model.attention import Attention, causal_mask, rotary_tables
from neo_keras.model.blocks import FeedForward, TransformerBlock
from neo_keras.model.gpt import GPT

ROOT = pathlib.Path(__file__).resolve().parent.parent
BATCH_SIZE = 2
ADDITIONS = 4_500  # in each of 3 blocks, of up to 210 + 17 + 210 + 210 + 840 inputs
RECIPES = ("modern", "classic", "grouped", "ngrams")


@pytest.fixture(params=RECIPES)
def config(request, tiny_config, classic_config):
    grouped = dataclasses.replace(tiny_config, num_heads=15, num_kv_heads=3, hidden_dim=210)
    ngrams = dataclasses.replace(
        tiny_config, max_ngram=4, ngram_rows=101, ngram_dim=11, embedding_norm=True
    )
    return dict(zip(RECIPES, (tiny_config, classic_config, grouped, ngrams)))[request.param]


def random_ids(seq_len, seed=11):
    return np.random.default_rng(seed).integers(13, size=(BATCH_SIZE, seq_len)).astype("int32")


def decode_in_chunks(model, token_ids, chunks):
    """The logits of each chunk (first, last + 1) of the sequence, from one cache."""
    cache, logits = model.empty_cache(BATCH_SIZE), []
    for begin, end in chunks:
        positions = np.arange(begin, end, dtype="int32")
        chunk_logits, cache = model.step(token_ids[:, begin:end], positions, cache)
        logits.append(np.array(chunk_logits))
    return np.concatenate(logits, axis=1), cache


CHUNKS = {
    "token by token": [(i, i + 1) for i in range(17)],
    "at once": [(0, 17)],
    "in chunks": [(0, 5), (5, 12), (12, 17)],
    "part of the context": [(0, 11), (11, 12)],
}


def test_cached_equals_full(config, make_model):
    model = make_model(config)
    for chunks in CHUNKS.values():
        assert_cached_equals_full(config, model, chunks)


def assert_cached_equals_full(config, model, chunks):
    token_ids = random_ids(chunks[-1][1])
    full = np.array(model(token_ids))
    assert full.dtype == np.float32 and full.shape == (BATCH_SIZE, chunks[-1][1], 13)
    assert full.std() > 0.3  # or all would be equal to all
    cached, cache = decode_in_chunks(model, token_ids, chunks)
    assert_close(cached, full, ADDITIONS)
    shape = (BATCH_SIZE, config.num_kv_heads, 17, config.head_dim)
    expected = {f"kv_cache_{kind}_{i}": shape for i in range(2) for kind in "kv"}
    if config.max_ngram > 1:
        expected["kv_cache_k_tokens"] = (BATCH_SIZE, 17 + config.max_ngram - 1)
    assert {name: np.shape(value) for name, value in cache.items()} == expected


def test_later_tokens_change_nothing_before(config, make_model):
    model, token_ids = make_model(config), random_ids(17)
    other_end = token_ids.copy()
    other_end[:, 9:] = (other_end[:, 9:] + 1) % 13
    logits, other_logits = np.array(model(token_ids)), np.array(model(other_end))
    np.testing.assert_array_equal(logits[:, :9], other_logits[:, :9])  # to the last bit
    assert np.abs(logits[:, 9:] - other_logits[:, 9:]).min(axis=(0, 1)).max() > 1e-4


def test_padding_of_a_chunk_is_never_seen(config, make_model):
    model = make_model(config)
    token_ids = random_ids(13)
    padded = np.concatenate([token_ids[:, :7], random_ids(3, seed=12)], axis=1)
    logits, cache = model.step(padded, np.arange(10, dtype="int32"), model.empty_cache(BATCH_SIZE))
    full = np.array(model(token_ids))
    assert_close(np.array(logits)[:, :7], full[:, :7], ADDITIONS)
    for begin, end in ((7, 8), (8, 13)):
        positions = np.arange(begin, end, dtype="int32")
        logits, cache = model.step(token_ids[:, begin:end], positions, cache)
        assert_close(logits, full[:, begin:end], ADDITIONS)


def reference_ngrams(config, w, token_ids):
    """One n-gram at a time, with Python's unbounded integers."""
    x = np.zeros((*token_ids.shape, config.ngram_dim))
    for (i, position), _ in np.ndenumerate(token_ids):
        for n in range(2, config.max_ngram + 1):
            row = n
            for p in range(position - n + 1, position + 1):
                row = row * 7001 + (int(token_ids[i, p]) + 1 if p >= 0 else 0)
            x[i, position] += w["ngram_embedding/table/embeddings"][row % config.ngram_rows]
    return x @ w["ngram_embedding/projection/kernel"]


def reference_logits(model, token_ids):
    """In NumPy, float64, but for the attention layers, which have a test of their own."""
    config = model.config
    w = {weight.path.split("/", 1)[1]: np.array(weight, "float64") for weight in model.weights}
    positions = np.arange(token_ids.shape[1], dtype="int32")
    mask, rotation = causal_mask(positions, positions), None

    def norm(x, name):
        if config.norm == "rms":
            return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}/scale"]
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * w[f"{name}/gamma"] + w.get(f"{name}/beta", 0)

    activation = {
        "relu_squared": lambda x: np.where(x > 0, x, 0) ** 2,
        "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2))),
        "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    }[config.activation]
    x = w["token_embedding/embeddings"][token_ids]
    if config.max_ngram > 1:
        x = x + reference_ngrams(config, w, token_ids)
    if config.position == "learned":
        x = x + w["position_embedding/embeddings"][positions]
    if config.embedding_norm:
        x = norm(x, "embedding_norm")
    if config.position == "rope":
        rotation = rotary_tables(len(positions), config.head_dim)
    for i, block in enumerate(model.blocks):
        normed = norm(x, f"block_{i}/attention_norm").astype("float32")
        x = x + np.array(block.attention(normed, mask, rotation=rotation)[0], "float64")
        name = f"block_{i}/feed_forward"
        hidden = norm(x, f"{name}_norm") @ w[f"{name}/expand/kernel"]
        hidden = activation(hidden + w.get(f"{name}/expand/bias", 0))
        x = x + hidden @ w[f"{name}/contract_kernel"].T + w.get(f"{name}/contract_bias", 0)
    tied_head = w["token_embedding/embeddings"].T
    return norm(x, "final_norm") @ w.get("token_embedding/reverse_embeddings", tied_head)


@pytest.mark.parametrize("changes", [{}, {"activation": "gelu"}], ids=["", "gelu"])
def test_agrees_with_the_reference(config, make_model, changes):
    model = make_model(dataclasses.replace(config, **changes))
    expected = reference_logits(model, random_ids(11))
    assert_close(model(random_ids(11)), expected, ADDITIONS)


def test_dropout_acts_while_training_only(tiny_config):
    model = GPT(dataclasses.replace(tiny_config, dropout=0.5))
    token_ids = np.arange(13, dtype="int32")[None]
    still = np.array(model(token_ids))
    np.testing.assert_array_equal(model(token_ids, training=False), still)
    dropped = np.array(model(token_ids, training=True))
    assert not np.allclose(dropped, still)
    assert not np.allclose(model(token_ids, training=True), dropped)


def test_number_of_parameters(tiny_config, classic_config):
    # block: qkv 70 * 210, output 70 * 70, feed-forward 2 * 70 * 280, two norms 70
    block = 14_700 + 4_900 + 39_200 + 140
    assert GPT(tiny_config).count_params() == 2 * block + 2 * 13 * 70 + 70
    # with biases: qkv 36 * 105, output 36 * 35, feed-forward 36 * 140 + 141 * 35, norms 4 * 35
    block = 3_780 + 1_260 + 5_040 + 4_935 + 140
    assert GPT(classic_config).count_params() == 2 * block + 13 * 35 + 17 * 35 + 2 * 35


def test_initial_weights(tiny_config):
    keras.utils.set_random_seed(3)
    model = GPT(tiny_config)
    stddev = {w.path.split("/", 1)[1]: float(np.std(w)) for w in model.weights}
    assert stddev["block_1/attention/qkv/kernel"] == pytest.approx(0.02, rel=0.05)
    assert stddev["token_embedding/embeddings"] == pytest.approx(0.02, rel=0.1)
    # Two additions to the stream in each of two blocks.
    for name in ("block_1/attention/output/kernel", "block_0/feed_forward/contract_kernel"):
        assert stddev[name] == pytest.approx(0.02 / 4**0.5, rel=0.05)
    matrices = [np.array(w) for w in model.weights if len(w.shape) == 2]
    signs = {(matrix.ravel()[:31] > 0).tobytes() for matrix in matrices}
    assert len(signs) == len(matrices)  # no random numbers are used twice


def test_keras_file_round_trip(config, make_model, tmp_path):
    model = make_model(config)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(restored) is GPT and restored.config == config
    np.testing.assert_array_equal(restored(random_ids(11)), model(random_ids(11)))


@pytest.mark.parametrize(
    "make_layer",
    [
        lambda: Attention(15, 3, 7, True, True, True, output_stddev=0.05, name="a"),
        lambda: FeedForward(7, "gelu_tanh", True, output_stddev=0.05, name="b"),
        lambda: TransformerBlock(ModelConfig(13, num_kv_heads=2, dropout=0.3), name="c"),
        lambda: GPT(ModelConfig(13, num_layers=1, norm="layer"), dtype="mixed_bfloat16", name="d"),
    ],
    ids=["Attention", "FeedForward", "TransformerBlock", "GPT"],
)
def test_layer_from_its_own_config(make_layer):
    layer = make_layer()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    restored = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert type(restored) is type(layer)
    assert set(inspect.signature(type(layer)).parameters) <= {"kwargs", *layer.get_config()}
    assert restored.get_config() == layer.get_config()


@pytest.mark.skipif(
    "ONEDNN_MAX_CPU_ISA" in os.environ,
    reason="TensorFlow asks the CPU, not oneDNN, whether it has bfloat16, and crashes",
)
def test_bfloat16_by_argument_and_by_policy(config, make_model):
    exact = np.array(make_model(config)(random_ids(11)))
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        by_policy = make_model(config)
    finally:
        keras.config.set_dtype_policy("float32")
    for model in (by_policy, make_model(config, dtype="mixed_bfloat16")):
        assert {layer.compute_dtype for layer in model._flatten_layers()} == {"bfloat16"}
        logits = np.array(model(random_ids(11)))
        assert logits.dtype == np.float32
        assert {w.dtype for w in model.trainable_weights} == {"float32"}
        cached, cache = decode_in_chunks(model, random_ids(11), [(0, 5), (5, 11)])
        assert cache["kv_cache_k_0"].dtype == "bfloat16"
        for rough in (logits, cached):
            assert 0 < np.abs(rough - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.parametrize(
    "config", ["grouped", pytest.param("classic", marks=pytest.mark.exhaustive)], indirect=True
)
def test_fit_with_and_without_xla(config):
    losses = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(3)
        model = GPT(dataclasses.replace(config, num_layers=1))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adamw", loss, jit_compile=jit_compile)
        token_ids = np.concatenate([random_ids(18), random_ids(18, seed=12)])  # two steps
        pairs = token_ids[:, :-1], token_ids[:, 1:]
        history = model.fit(*pairs, batch_size=BATCH_SIZE, shuffle=False, verbose=0)
        losses += history.history["loss"]
    assert losses[0] == pytest.approx(np.log(13), rel=0.1)
    assert_close(losses[1], losses[0], ADDITIONS)


def test_agrees_with_gpt2_of_hugging_face(classic_config, make_model):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shape = dict(vocab_size=13, n_positions=17, n_embd=35, n_layer=2, n_head=5)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape)).eval()
    ours = make_model(classic_config)
    names = {"attention": "attn", "feed_forward": "mlp", "qkv": "c_attn", "attention_norm": "ln_1",
             "feed_forward_norm": "ln_2", "expand": "c_fc", "output": "c_proj", "block_0": "h.0",
             "contract_kernel": "c_proj.weight", "contract_bias": "c_proj.bias",
             "kernel": "weight", "gamma": "weight", "beta": "bias",
             "embeddings": "weight", "token_embedding": "wte", "position_embedding": "wpe",
             "final_norm": "ln_f", "block_1": "h.1"}  # fmt: skip
    state = {}
    for weight in ours.weights:
        parts = [names.get(part, part) for part in weight.path.split("/")[1:]]
        value = torch.tensor(np.array(weight))
        value = value.T if weight.name == "contract_kernel" else value
        state[".".join(["transformer", *parts])] = value
    assert theirs.load_state_dict(state, strict=False) == (["lm_head.weight"], [])  # tied
    token_ids = random_ids(17)
    with torch.no_grad():
        expected = theirs(torch.tensor(token_ids, dtype=torch.int64)).logits.numpy()
    assert_close(ours(token_ids), expected, ADDITIONS)
