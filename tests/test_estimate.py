"""What a training is said to take, counted by hand and against what Keras allocates."""

import dataclasses
import math

import pytest

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.model.encoder_decoder import model_class
from neo_keras.presets import PRESETS, from_preset
from neo_keras.training import estimate, flops
from neo_keras.training.inputs import validation_rows
from neo_keras.training.optimizer import make_optimizer

# head_dim 4; feed_forward_dim 44
TINY = ModelConfig(vocab_size=7, max_seq_len=5, num_layers=3, num_heads=2, hidden_dim=12)
SMALL = dict(num_layers=2, num_heads=2, hidden_dim=12, max_seq_len=5, ngram_rows=17, ngram_dim=3)
BIASED = dict(norm="layer", use_bias=True, num_kv_heads=1, position="learned", max_ngram=3)
MACHINE = estimate.Machine(1e9, 2e9, 1e6, math.inf, 5e5)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("changes", [{}, BIASED])
def test_weights_are_those_that_keras_makes(preset, changes):
    config, _ = from_preset(preset, 7, **{**SMALL, "dropout": 0.0}, **changes)
    config = dataclasses.replace(config, ngram_dropout=0.0)
    assert flops.count_weights(config).total == model_class(config)(config).count_params()


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "adam", "sgd"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_optimizer_state_is_what_keras_allocates(optimizer, ema):
    config, training = from_preset("shakespeare-cpu", 7, **SMALL, optimizer=optimizer, ema=ema)
    model = model_class(config)(config)
    keras_optimizer = make_optimizer(training, model)
    keras_optimizer.build(model.trainable_variables)
    allocated = sum(math.prod(v.shape) * 4 for v in keras_optimizer.variables if v.ndim)
    assert flops.optimizer_bytes(config, optimizer, ema > 0) == allocated


def test_flops_of_a_tiny_model():
    block = 12 * 36 + 12 * 12 + 2 * 12 * 48
    scores_and_values = 2 * (2 * 12 * 5)  # a token's queries with 5 keys, and their values
    forward = 2 * (3 * block + 12 * 7) + 3 * scores_and_values
    assert flops.flops_per_token(TINY) == 3 * forward  # the backward pass has two for each
    assert flops.newton_schulz_flops(dataclasses.replace(TINY, num_layers=1)) == 3 * (
        (4 * 12**2 * 36 + 2 * 12**3) + 6 * 12**3 + 2 * (4 * 12**2 * 48 + 2 * 12**3)
    )


def test_encoder_decoder_reads_a_source_for_each_target():
    config = dataclasses.replace(TINY, architecture="encoder-decoder")
    block = 12 * 36 + 12 * 12 + 2 * 12 * 48
    cross = 12 * 12 + 12 * 24 + 12 * 12
    products = 3 * (2 * block + cross) + 12 * 7
    assert flops.flops_per_token(config) == 6 * products + 3 * 3 * 12 * 12 * 5
    assert flops.activation_bytes(config, 1, 4) > 2 * flops.activation_bytes(TINY, 1, 4)


def test_activations_of_a_tiny_model():
    scores = 2 * 5  # of a token: two heads, five keys
    norm = 3 * 12 * 4  # what comes in, normalized, scaled
    attention = 4 * 12 * 4 + 2 * 12 * 4 + scores * 4  # q, k, v, attended; q and k before QK norm
    block = 2 * norm + attention + 2 * 48 * 4  # ReLU, and its square
    assert flops.activation_bytes(TINY, 11, 4) == 11 * 5 * (3 * block + norm)
    norm = 2 * 12 * 4 + 12 * 2
    attention = 4 * 12 * 2 + 2 * 12 * 4 + scores * (4 + 2)
    block = 2 * norm + attention + 2 * 48 * 2
    assert flops.activation_bytes(TINY, 11, 2) == 11 * 5 * (3 * block + norm)
    assert flops.activation_bytes(TINY, 11, 2, layers=1) == 11 * 5 * (block + norm)


def test_dropout_keeps_masks_and_draws():
    config = dataclasses.replace(TINY, dropout=0.1)
    more = flops.activation_bytes(config, 1, 4) - flops.activation_bytes(TINY, 1, 4)
    assert more == 5 * 3 * 2 * 12  # a byte for each
    assert flops.num_dropout_draws(config, 1) == 5 * (2 * 3 + 1) * 12
    assert flops.num_dropout_draws(TINY, 1) == 0


FLOAT32 = TrainingConfig(
    cpu_replicas=1, jit_compile=False, mixed_precision="float32", optimizer="adamw"
)


def test_tokens_further_ahead_have_logits_too():
    training = dataclasses.replace(FLOAT32, batch_size=23)
    alone, ahead = (
        estimate.memory_parts(TINY, dataclasses.replace(training, num_future_tokens=n))
        for n in (0, 3)
    )
    assert ahead.pop("logits") == 4 * alone.pop("logits")
    assert ahead == alone


def memory(config, on_device=False, **changes):
    training = dataclasses.replace(FLOAT32, **changes)
    return estimate.memory_parts(config, training, on_device)


def test_memory_is_the_larger_of_backward_pass_and_update():
    many = memory(TINY, batch_size=131)
    assert many["logits"] == 131 * 5 * 7 * 8
    assert many["optimizer"] == 2 * many["weights"]
    assert many["checkpoint"] == 3 * many["weights"]
    assert "gradients" not in many
    one = memory(dataclasses.replace(TINY, hidden_dim=1200), batch_size=1, clip_norm=1.0)
    assert one["gradients"] == 2 * one["weights"]
    assert "activations" not in one
    on_device = memory(TINY, on_device=True, batch_size=131)
    assert many.keys() - on_device.keys() == {"process", "checkpoint"}


def test_memory_may_be_that_of_validation():
    long = dataclasses.replace(TINY, max_seq_len=509, num_layers=1)
    assert validation_rows(dataclasses.replace(FLOAT32, batch_size=1)) == 2
    parts = memory(long, batch_size=1)
    assert parts["validation"] == 2 * 509 * (2 * 4 * 2 * 509 + 2 * 4 * 48 + (4 + 4) * 7)


def test_bfloat16_halves_what_it_may():
    parts = memory(TINY, batch_size=131, mixed_precision="bfloat16")
    assert parts["weights"] == memory(TINY)["weights"]
    assert parts["weight copies"] == 2 * flops.count_weights(TINY).num_in_products
    assert parts["logits"] == 131 * 5 * 7 * (4 + 4 + 2)


def test_accumulation_keeps_one_batch_and_the_sum():
    whole, slices = (
        memory(TINY, batch_size=131),
        memory(TINY, batch_size=131, gradient_accumulation_steps=3),
    )
    assert slices["activations"] == whole["activations"]
    assert slices["summed gradients"] == whole["weights"]


def test_parts_have_gradients_of_their_own():
    wide = dataclasses.replace(TINY, hidden_dim=1200)
    parts = memory(wide, batch_size=3, cpu_replicas=3)
    assert parts["gradients of parts"] == 3 * parts["weights"]
    assert parts["gradients"] == parts["weights"]  # their sum
    assert "gradients of parts" not in memory(wide, batch_size=3)


def test_rematerialization_keeps_what_goes_into_blocks():
    kept = memory(TINY, batch_size=131, remat=True)["activations"]
    one = flops.activation_bytes(TINY, 131, 4, layers=1)
    assert kept == 131 * 5 * 3 * 12 * 4 + 2 * one  # a block computed again, and its gradients


def test_seconds_are_those_of_the_parts():
    training = dataclasses.replace(FLOAT32, batch_size=2)
    weights, tokens = flops.count_weights(TINY), 2 * 5
    kept = flops.activation_bytes(TINY, 2, 4) + tokens * 7 * 8
    assert estimate.seconds_per_step(TINY, training, MACHINE) == pytest.approx(
        6 * weights.num_in_products * tokens / 1e9
        + 3 * 12 * 12 * 5 * tokens / 2e9
        + 12 * kept / 1e6
        + 35 * 4 * weights.total / 5e5
    )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_seconds_of_parts(jit_compile):
    """Those of TensorFlow's optimizer, whatever compiles the rest."""
    training = dataclasses.replace(FLOAT32, batch_size=2, jit_compile=jit_compile)
    whole = estimate.seconds_per_step(TINY, training, MACHINE)
    if jit_compile:
        whole += (35 - 7) * 4 * flops.count_weights(TINY).total / 5e5
    parts = dataclasses.replace(training, cpu_replicas=2)
    assert estimate.seconds_per_step(TINY, parts, MACHINE) == pytest.approx(1.1 / 2 * whole)


def test_the_line():
    line = str(estimate.Estimate(123849984, 2_060_000_000, 40.2, 39600))
    assert line == "about 124M parameters, 2.1 GB, 40 s a step, 11 hours on this machine"
    line = str(estimate.Estimate(2904832, 940_000_000, 0.0644, 90.2))
    assert line == "about 2.9M parameters, 0.9 GB, 64 ms a step, 90 s on this machine"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.00001, "1 ms"), (0.9996, "1.0 s"), (119, "119 s"), (120, "2.0 minutes"),
        (7199, "120 minutes"), (7200, "2.0 hours"), (345_600, "4.0 days"),
    ],
)  # fmt: skip
def test_durations(seconds, words):
    assert estimate._duration(seconds) == words


def test_estimate_measures_and_respects_the_limit(monkeypatch):
    monkeypatch.setattr(estimate, "measure_machine", lambda *args: MACHINE)
    training = TrainingConfig(
        cpu_replicas=1, jit_compile=False, mixed_precision="float32", max_seconds=3.0
    )
    assert estimate.estimate_training(TINY, training, steps=10**9).seconds == 3.0
    one = estimate.estimate_training(TINY, dataclasses.replace(training, max_seconds=None), 7)
    assert one.seconds == pytest.approx(7 * one.seconds_per_step)


def test_machine_is_measured_with_and_without_dropout():
    training = TrainingConfig(
        batch_size=2, cpu_replicas=1, jit_compile=False, mixed_precision="float32"
    )
    machine = estimate.measure_machine(dataclasses.replace(TINY, dropout=0.1), training)
    assert all(0 < rate < math.inf for rate in dataclasses.astuple(machine))
    assert estimate.measure_machine(TINY, training).dropout_rate == math.inf
