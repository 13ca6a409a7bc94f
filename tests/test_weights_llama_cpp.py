"""GGUF files of each architecture, in and out, against llama.cpp itself."""

import dataclasses
import itertools

import numpy as np
import pytest
import tiny_tokenizers
from conftest import randomize
from llama_server import serve

from neo_keras.config import ModelConfig
from neo_keras.generation.decoding import generate_ids
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.model.gpt import GPT
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.weights.conversion import as_target, target_of
from neo_keras.weights.gguf import write_gguf
from neo_keras.weights.open import open_pretrained

CLASSIC = dict(position="learned", norm="layer", activation="gelu_tanh", qk_norm=False)
GATED = dict(activation="swiglu", feed_forward_dim=96, qk_norm=False)
# By the architecture that a model leaves as: fields of `ModelConfig`.
MODELS = {
    "gpt2": dict(**CLASSIC, use_bias=True, tie_embeddings=True),
    "gpt_neox": dict(
        norm="layer", activation="gelu", qk_norm=False, use_bias=True, parallel_residual=True,
        rotary_dim=8, feed_forward_dim=96),
    "llama": dict(**GATED, num_kv_heads=2, norm_epsilon=1e-5, rope_base=1234.5),
    "qwen2": dict(**GATED, num_kv_heads=2, qkv_bias=True, tie_embeddings=True),
    "qwen3": dict(
        **{**GATED, "qk_norm": True}, qk_norm_scale=True, head_dim=32, num_kv_heads=2),
    "apertus": dict(embedding_norm=True),
    "arcee": dict(qk_norm=False, num_kv_heads=1),
}  # fmt: skip
PROMPT, NUM_TOKENS = "Où est l'été ? 日本語。", 64


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MODELS)
def test_out_and_in(name, tmp_path, record_property):
    tokenizer = Tokenizer(tiny_tokenizers.MAKE["char"]())
    config = ModelConfig(
        tokenizer.vocab_size, 97, num_layers=3, num_heads=4, hidden_dim=64, **MODELS[name]
    )
    model = GPT(config)
    randomize(model, seed=11)
    written_as, target = target_of(config, "gguf")
    assert written_as == name
    path = tmp_path / "model.gguf"
    write_gguf(path, name, as_target(model, target), tokenizer)

    back = open_pretrained(path).load_model()
    irrelevant = {"dropout": 0.0, "end_token_id": None}
    assert dataclasses.replace(back.config, **irrelevant) == dataclasses.replace(
        target, **irrelevant
    )
    expected = {v.path.split("/", 1)[1]: np.array(v) for v in as_target(model, target).weights}
    for variable in back.weights:  # bit for bit
        same_path = variable.path.split("/", 1)[1]
        if "seed_generator" not in variable.path:
            np.testing.assert_array_equal(variable, expected[same_path], same_path)

    ids = tokenizer.encode(PROMPT).tolist()
    with serve(path) as post:
        tokens = post("tokenize", content=PROMPT, add_special=True)["tokens"]
        answer = post(
            "completion", prompt=ids, n_predict=1, temperature=0, n_probs=tokenizer.vocab_size
        )
        text = post("completion", prompt=ids, n_predict=NUM_TOKENS, temperature=0,
                    return_tokens=True, cache_prompt=False)  # fmt: skip
    assert tokens == ids
    logits = np.array(model(np.array([ids])))[0, -1]
    log_probabilities = logits - logits.max()
    log_probabilities -= np.log(np.exp(log_probabilities).sum())
    (first,) = answer["completion_probabilities"]
    got = {row["id"]: row["logprob"] for row in first["top_logprobs"]}
    assert len(got) == tokenizer.vocab_size
    got = np.array([got[i] for i in range(tokenizer.vocab_size)])
    difference = np.abs(got - log_probabilities).max()
    record_property("summary", f"llama.cpp {name}: log-probabilities differ by {difference:.1e}")
    assert difference < 5e-3  # its tables of activations are in float16
    engine = keras_engine(model)
    generated = generate_ids(engine, ids, GREEDY, seed=0, suppress_tokens=[tokenizer.unk_token_id])
    ours = list(itertools.islice(generated, NUM_TOKENS))
    assert text["tokens"] == ours
