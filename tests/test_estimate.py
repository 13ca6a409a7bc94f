"""The weights and the memory of a training, counted by hand and against what Keras allocates."""

import dataclasses
import math

import pytest

from neo_keras.choices import OPTIMIZERS
from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.model.encoder_decoder import model_class
from neo_keras.presets import PRESETS, from_preset
from neo_keras.training import estimate
from neo_keras.training.optimizer import make_optimizer
from neo_keras.training.resolve import resolve

# head_dim 6; feed_forward_dim 48
TINY = ModelConfig(vocab_size=7, max_seq_len=5, num_layers=3, num_heads=2, hidden_dim=12)
SMALL = dict(num_layers=2, num_heads=2, hidden_dim=12, max_seq_len=5, ngram_rows=17, ngram_dim=3)
BIASED = dict(norm="layer", use_bias=True, num_kv_heads=1, position="learned", max_ngram=3)


GATED = dict(activation="swiglu", feed_forward_dim=31, head_dim=10, norm="layer", qkv_bias=True,
             qk_norm_scale=True)  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("changes", [{}, BIASED, GATED])
def test_weights_are_those_that_keras_makes(preset, changes):
    config, _ = from_preset(preset, 7, **{**SMALL, "dropout": 0.0}, **changes)
    config = dataclasses.replace(config, ngram_dropout=0.0)
    assert estimate.count_weights(config).total == model_class(config)(config).count_params()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_optimizer_state_is_what_keras_allocates(optimizer, ema):
    config, training = from_preset("shakespeare-cpu", 7, **SMALL, optimizer=optimizer, ema=ema)
    training = resolve(config, training)
    model = model_class(config)(config)
    keras_optimizer = make_optimizer(training, model)
    keras_optimizer.build(model.trainable_variables)
    allocated = sum(math.prod(v.shape) * 4 for v in keras_optimizer.variables if v.ndim)
    assert estimate.memory_parts(config, training)["optimizer"] == allocated


def memory(config=TINY, on_device=False, **changes):
    training = TrainingConfig(**{"optimizer": "adamw", "batch_size": 11, **changes})
    return estimate.memory_parts(config, resolve(config, training), on_device)


@pytest.mark.parametrize("precision, size", [("float32", 4), ("bfloat16", 2)])
def test_activations_of_a_tiny_model(precision, size):
    scores = 2 * 5  # of a token: two heads, five keys
    score_size = 4 if size == 4 else 4 + 2  # in float32, and cast
    norm = 2 * 12 * 4 + 12 * size  # what comes in, normalized, scaled
    attention = 4 * 12 * size + 2 * 12 * 4 + scores * score_size  # q, k, v, attended; q, k unscaled
    block = 2 * norm + attention + 2 * 48 * size  # ReLU, and its square
    # The gradients of what one block kept are there, too.
    assert memory(mixed_precision=precision)["activations"] == 11 * 5 * (4 * block + norm)
    kept = memory(mixed_precision=precision, remat=True)["activations"]
    assert kept == 11 * 5 * (3 * 12 * size + 2 * block + norm)


def test_dropout_keeps_masks():
    more = memory(dataclasses.replace(TINY, dropout=0.1))["activations"] - memory()["activations"]
    assert more == 11 * 5 * 3 * 2 * 12  # a byte for each


def test_an_encoder_decoder_reads_a_source_for_each_target():
    config = dataclasses.replace(TINY, architecture="encoder-decoder")
    assert memory(config)["activations"] > 2 * memory()["activations"]


def test_logits():
    """In float32, with their gradient; in bfloat16 also as they were; of further tokens, too."""
    assert memory()["logits"] == 11 * 5 * 7 * 8
    assert memory(mixed_precision="bfloat16")["logits"] == 11 * 5 * 7 * (8 + 2)
    assert memory(num_future_tokens=3)["logits"] == 4 * memory()["logits"]


@pytest.mark.parametrize(
    "changes, copies",
    [
        ({}, 1),
        ({"clip_norm": 1.0}, 2),
        ({"gradient_accumulation_steps": 3}, 2),
        ({"cpu_replicas": 11}, 11),
    ],
)
def test_gradients(changes, copies):
    parts = memory(**changes)
    assert parts["gradients"] == copies * parts["weights"]
    assert parts["activations"] == memory()["activations"]


def test_what_is_not_in_the_memory_of_a_device():
    parts, on_device = memory(), memory(on_device=True)
    assert parts.keys() - on_device.keys() == {"process", "checkpoint"}
    assert parts["checkpoint"] == 3 * parts["weights"]  # with two moments


def test_the_lines(monkeypatch):
    training = resolve(TINY, TrainingConfig())
    monkeypatch.setattr(estimate, "memory_parts", lambda *args: {"a": 2.04e9, "b": 1e9})
    monkeypatch.setattr(estimate, "_machine_memory", lambda: 3.05e9)
    assert estimate.describe_memory(TINY, training) == ["about 3.0 GB of memory"]
    monkeypatch.setattr(estimate, "_machine_memory", lambda: 2.9e9)
    first, warning = estimate.describe_memory(TINY, training)
    assert warning.startswith("warning: this machine has 2.9 GB: give a smaller --batch-size")
    assert estimate.describe_memory(TINY, training, on_device=True) == [first]
    monkeypatch.setattr(estimate, "_machine_memory", lambda: None)
    assert estimate.describe_memory(TINY, training) == [first]


def test_this_machine_has_memory():
    assert estimate._machine_memory() > 2**20
