"""What is filled in where a configuration says nothing, for texts and machines of all kinds."""

import dataclasses
import functools
import types

import numpy as np
import pytest
import tensorflow as tf

from neo_keras.choices import OPTIMIZERS
from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import InputError
from neo_keras.training import compute
from neo_keras.training.resolve import Machine, resolve

WIDE = ModelConfig(13, hidden_dim=128)
NARROW = ModelConfig(13, hidden_dim=64)
BFLOAT16 = {"cpu_features": frozenset({"avx2", "avx512_bf16"})}


def gpu(*compute_capability):
    return {"device": "GPU", "compute_capability": compute_capability, **BFLOAT16}


def test_nothing_is_left_open():
    config = resolve(WIDE, TrainingConfig())
    limits = {"clip_norm", "max_seconds", "lora_rank", "lora_alpha", "lora_targets"}
    assert {name for name, value in vars(config).items() if value is None} == limits
    assert resolve(WIDE, config, machine=Machine(**gpu(8, 0), num_cores=2)) == config


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps, warmup_share", [(50, 5), (100_000, None)])
def test_what_suits_an_optimizer(optimizer, steps, warmup_share):
    facts = OPTIMIZERS[optimizer]
    config = resolve(WIDE, TrainingConfig(optimizer=optimizer, steps=steps))
    assert config.learning_rate == facts.learning_rate
    assert config.weight_decay == (facts.weight_decay or 0)
    assert config.warmup_steps == (warmup_share or facts.max_warmup_steps)
    asked = TrainingConfig(optimizer=optimizer, steps=steps, learning_rate=0.1, warmup_steps=0)
    config = resolve(WIDE, asked)
    assert (config.learning_rate, config.warmup_steps) == (0.1, 0)


@pytest.mark.parametrize(
    "vocab_size, max_seq_len, steps, num_future_tokens, temperature",
    [
        (256, 5, 10, 3, 1.0),  # half a pass
        (257, 5, 20, 0, 1.0),  # one
        (256, 3, 40, 2, 1 + 0.08 * np.log(2)),
    ],
)
def test_what_suits_a_text(vocab_size, max_seq_len, steps, num_future_tokens, temperature):
    model_config = dataclasses.replace(NARROW, vocab_size=vocab_size, max_seq_len=max_seq_len)
    corpus = types.SimpleNamespace(training=None, num_training_rows=460)
    config = TrainingConfig(batch_size=23, steps=steps)
    suited = resolve(model_config, config, corpus)
    assert (suited.num_future_tokens, suited.loss_temperature) == (
        num_future_tokens,
        pytest.approx(temperature),
    )
    config = dataclasses.replace(config, num_future_tokens=1, loss_temperature=0.9)
    asked = resolve(model_config, config, corpus)
    assert (asked.num_future_tokens, asked.loss_temperature) == (1, 0.9)


@pytest.mark.parametrize(
    "machine, model_config, jit_compile, mixed_precision",
    [
        ({}, WIDE, True, "float32"),
        (BFLOAT16, WIDE, False, "bfloat16"),
        (BFLOAT16, NARROW, True, "float32"),
        (gpu(8, 0), WIDE, True, "bfloat16"),
        (gpu(7, 5), WIDE, True, "float16"),
        (gpu(6, 1), WIDE, True, "float32"),
        ({"device": "XPU", **BFLOAT16}, WIDE, False, "float32"),
    ],
    ids=["CPU", "CPU with bfloat16", "narrow", "A100", "T4", "P100", "XPU"],
)
def test_arithmetic(machine, model_config, jit_compile, mixed_precision):
    config = resolve(model_config, TrainingConfig(), machine=Machine(**machine))
    assert (config.jit_compile, config.mixed_precision) == (jit_compile, mixed_precision)


@pytest.mark.parametrize(
    "asked, expected",
    [
        ({"jit_compile": True}, (True, "float32")),  # XLA gains nothing from bfloat16 on a CPU
        ({"jit_compile": False}, (False, "bfloat16")),
        ({"mixed_precision": "bfloat16"}, (False, "bfloat16")),
        ({"mixed_precision": "float32"}, (True, "float32")),
        ({"mixed_precision": "float16"}, (True, "float16")),
        ({"jit_compile": True, "mixed_precision": "bfloat16"}, (True, "bfloat16")),
        ({"jit_compile": False, "mixed_precision": "float32"}, (False, "float32")),
    ],
)
def test_what_is_asked_for_is_kept(asked, expected):
    config = resolve(WIDE, TrainingConfig(**asked), machine=Machine(**BFLOAT16))
    assert (config.jit_compile, config.mixed_precision) == expected


@pytest.mark.parametrize(
    "num_cores, batch_size, replicas",
    [(2, 16, 2), (8, 12, 6), (4, 6, 3), (1, 16, 1), (2, 7, 1), (64, 16, 1)],
)
def test_replicas_for_most_of_the_cores(num_cores, batch_size, replicas):
    machine = Machine(num_cores=num_cores)
    config = resolve(WIDE, TrainingConfig(batch_size=batch_size), machine=machine)
    assert config.cpu_replicas == replicas
    asked = TrainingConfig(batch_size=batch_size * 3, cpu_replicas=3)
    assert resolve(WIDE, asked, machine=machine).cpu_replicas == 3


@pytest.mark.parametrize("device, hidden_dim", [("GPU", 128), ("XPU", 128), ("CPU", 2**11)])
def test_one_replica(device, hidden_dim):
    """Of what computes elsewhere, and of models with large gradients."""
    machine = Machine(device, num_cores=2)
    config = resolve(ModelConfig(13, hidden_dim=hidden_dim), TrainingConfig(), machine=machine)
    assert config.cpu_replicas == 1


def test_devices_that_share_a_batch():
    machine = Machine(num_devices=3, **BFLOAT16)
    config = resolve(WIDE, TrainingConfig(batch_size=12, jit_compile=True), machine=machine)
    assert (config.jit_compile, config.mixed_precision) == (False, "bfloat16")
    assert (config.steps_per_execution, config.cpu_replicas) == (1, 1)
    with pytest.raises(InputError, match="got 16: try --batch-size 18"):
        resolve(WIDE, TrainingConfig(batch_size=16), machine=machine)


@pytest.mark.parametrize(
    "devices, expected",
    [
        ({}, Machine(cpu_features=frozenset({"avx2"}), num_cores=8)),
        ({"GPU": (8, 0)}, Machine("GPU", (8, 0), frozenset({"avx2"}))),
        ({"XPU": None}, Machine("XPU", cpu_features=frozenset({"avx2"}))),
    ],
    ids=["CPU", "GPU", "XPU"],
)
def test_this_machine(monkeypatch, threads, devices, expected):
    monkeypatch.setattr(compute, "cpu_features", lambda: {"avx2"})
    monkeypatch.setattr(compute, "num_cores", lambda: 8)
    monkeypatch.setattr(
        tf.config, "get_visible_devices", lambda kind: [kind] if kind in devices else []
    )
    details = {"compute_capability": devices.get("GPU")}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    assert compute.this_machine() == expected
    assert threads == ({} if devices else {"inter": 8})


@pytest.fixture
def threads(monkeypatch):
    """What TensorFlow was told: {"inter": threads, "intra": threads}."""
    told = {}
    for kind in ("inter", "intra"):
        name = f"set_{kind}_op_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, name, functools.partial(told.__setitem__, kind))
    return told


@pytest.mark.parametrize(
    "num_cores, replicas, intra", [(2, 2, 1), (8, 6, 1), (8, 3, 2), (8, 1, None)]
)
def test_cores_are_shared(threads, monkeypatch, num_cores, replicas, intra):
    monkeypatch.setattr(compute, "num_cores", lambda: num_cores)
    compute.prepare_cpu(replicas)
    assert threads == ({"intra": intra} if intra else {})


def test_cores_are_not_shared_once_tensorflow_has_computed(monkeypatch):
    def refuse(num_threads):
        raise RuntimeError

    for kind in ("inter", "intra"):
        monkeypatch.setattr(tf.config.threading, f"set_{kind}_op_parallelism_threads", refuse)
    monkeypatch.setattr(compute, "num_cores", lambda: 2)
    assert compute.this_machine().num_cores == 1
    compute.prepare_cpu(2)  # of a run that began so: it goes on with the threads there are


def test_description():
    config = TrainingConfig(jit_compile=False, mixed_precision="bfloat16", cpu_replicas=1)
    assert compute.describe_compute(config) == "bfloat16, TensorFlow's own kernels"
    config = TrainingConfig(jit_compile=True, mixed_precision="float32", cpu_replicas=2)
    described = "float32, compiled by XLA, 2 CPU replicas"
    assert compute.describe_compute(config) == described
