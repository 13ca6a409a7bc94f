"""Other shapes than the default export as well; the unknown token is never the likeliest."""

import keras
import numpy as np
import pytest
from read_flatbuffer import flatbuffer, operators
from sure_texts import sure_text
from tiny_models import ALPHABET, make_run
from tolerances import assert_close

from neo_keras.config import ModelConfig
from neo_keras.export.exporter import export_run
from neo_keras.export.formats import Source
from neo_keras.export.litertlm import LiteRTLM
from neo_keras.export.tflite import write_tflite
from neo_keras.generation.load import load_engine, tflite_engine
from neo_keras.model.gpt import GPT
from neo_keras.presets import CLASSIC
from neo_keras.text.tokenizer import Tokenizer

UNK = 12


def decoded_logits(engine, token_ids, prefix_len):
    engine.reset()
    engine.prefill(token_ids[:prefix_len])
    return np.array([engine.decode(token_id) for token_id in token_ids[prefix_len:]])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({**CLASSIC, "use_bias": True}, marks=pytest.mark.exhaustive),
        pytest.param(
            {**CLASSIC, "activation": "gelu_tanh", "use_bias": True, "tie_embeddings": False},
            marks=pytest.mark.exhaustive,
        ),
        {"num_heads": 6, "num_kv_heads": 3, "hidden_dim": 36, "tie_embeddings": True},
    ],
    ids=["classic", "gelu_tanh", "grouped"],
)
def test_shape(tmp_path, changes):
    config = ModelConfig(
        **{"vocab_size": 13, "max_seq_len": 17, "num_layers": 1, "num_heads": 5,
           "hidden_dim": 30, **changes}
    )  # fmt: skip
    model = GPT(config)
    rng = np.random.default_rng(29)
    for weight in model.weights:  # so that biases and scales matter too
        weight.assign(weight + rng.normal(scale=0.3, size=weight.shape))
    path = tmp_path / "model.tflite"
    write_tflite(Source(model, Tokenizer.characters_of(ALPHABET)), path, "float32")
    assert not [name for name in operators(flatbuffer(path)) if name.startswith("CUSTOM")]
    token_ids = rng.integers(0, 12, 17)
    logits = decoded_logits(tflite_engine(path, config), token_ids, 3)
    expected = keras.ops.convert_to_numpy(model(token_ids[None]))[0, 3:]
    # In each of 2 blocks, of up to 36 + 17 + 36 + 36 + 144 inputs.
    assert_close(logits[:, :UNK], expected[:, :UNK], additions=600)
    assert expected[:, :UNK].std(axis=0).min() > 0.1  # the logits depend on the text


@pytest.fixture(scope="module")
def unknown_run(tmp_path_factory):
    """A model of GPT-2's shape that likes the unknown token best, whatever it read."""
    changes = {**CLASSIC, "use_bias": True, "max_seq_len": 14, "num_layers": 1}
    run = make_run(tmp_path_factory.mktemp("unknown") / "run", **changes)
    model = run.load_model()
    # The head is the embedding: this row's product with this bias is 30 * 2 * 2.
    model.final_norm.beta.assign_add(np.full(30, 2.0))
    embeddings = keras.ops.convert_to_numpy(model.token_embedding.embeddings).copy()
    embeddings[UNK] = 2.0
    model.token_embedding.embeddings.assign(embeddings)
    run.save_best(model)
    export_run(run, ["saved_model", "litertlm"], ["float32"])
    write_tflite(Source(model, run.load_tokenizer()), run.export / "model-int8.tflite", "int8")
    return run


@pytest.fixture(scope="module")
def token_ids(unknown_run):
    return unknown_run.load_tokenizer().encode(unknown_run.load_validation_text()[:14])


@pytest.fixture(scope="module")
def keras_logits(unknown_run, token_ids):
    logits = keras.ops.convert_to_numpy(unknown_run.load_model()(token_ids[None]))[0]
    assert (logits.argmax(axis=-1) == UNK).all()  # else this file tests nothing
    return logits


@pytest.mark.parametrize("name", ["saved_model", "model-int8.tflite"])
def test_the_unknown_token_is_never_the_likeliest(unknown_run, token_ids, keras_logits, name):
    engine, _ = load_engine(unknown_run.export / name)
    logits = decoded_logits(engine, token_ids, 2)
    assert logits[:, UNK].max() < logits[:, :UNK].min() - 1e6
    np.testing.assert_allclose(logits[:, :UNK], keras_logits[2:, :UNK], atol=0.3)


def test_the_unknown_token_is_never_the_likeliest_when_served(unknown_run, token_ids, keras_logits):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(unknown_run.export / "saved_model"))
    served = loaded.signatures["serve"](token_ids=tf.constant(token_ids[None]))
    logits = served["logits"].numpy()[0]
    assert logits[:, UNK].max() < logits[:, :UNK].min() - 1e6
    assert_close(logits[:, :UNK], keras_logits[:, :UNK], additions=300)


def test_litert_lm_never_writes_the_unknown_token(unknown_run, keras_logits):
    engine, tokenizer = load_engine(unknown_run.path)
    lite_rt_lm = LiteRTLM(unknown_run.export / "model-float32.litertlm")
    for prompt in ("abc ", "gg\nhi", "j"):
        num_tokens = 14 - len(prompt)
        text = lite_rt_lm.continue_greedily(prompt, num_tokens)
        assert text.startswith(sure_text(engine, tokenizer, prompt, num_tokens))
        assert len(text) == num_tokens and "<" not in text
    lite_rt_lm.close()


@pytest.mark.exhaustive
def test_litert_lm_with_a_context_that_is_a_small_prime(tmp_path):
    run = make_run(tmp_path / "run", steps=1, num_layers=1, max_seq_len=11)
    export_run(run, ["litertlm"], ["float32"])
