"""Which arithmetic is chosen, on machines of all kinds."""

import functools

import pytest
import tensorflow as tf

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.training import compute

WIDE = ModelConfig(13, hidden_dim=128)
NARROW = ModelConfig(13, hidden_dim=64)


@pytest.fixture
def machine(monkeypatch):
    """Pretends to be one: `machine(GPU=(8, 0))`, `machine(XPU=None)`, `machine(bfloat16=True)`."""

    def make(bfloat16=False, **devices):
        features = {"avx2", "avx512_bf16"} if bfloat16 else {"avx2"}
        monkeypatch.setattr(compute, "cpu_features", lambda: features)
        monkeypatch.setattr(
            tf.config, "get_visible_devices", lambda kind: [kind] if kind in devices else []
        )
        monkeypatch.setattr(
            tf.config.experimental,
            "get_device_details",
            lambda device: {"compute_capability": devices[device]},
        )

    return make


@pytest.mark.parametrize(
    "devices, model_config, jit_compile, mixed_precision",
    [
        ({}, WIDE, True, "float32"),
        ({"bfloat16": True}, WIDE, False, "bfloat16"),
        ({"bfloat16": True}, NARROW, True, "float32"),
        ({"GPU": (8, 0)}, WIDE, True, "bfloat16"),
        ({"GPU": (7, 5), "bfloat16": True}, WIDE, True, "float16"),
        ({"GPU": (6, 1), "bfloat16": True}, WIDE, True, "float32"),
        ({"XPU": None, "bfloat16": True}, WIDE, False, "float32"),
    ],
    ids=["CPU", "CPU with bfloat16", "narrow", "A100", "T4", "P100", "XPU"],
)
def test_choice(machine, devices, model_config, jit_compile, mixed_precision):
    machine(**devices)
    config = compute.choose_compute(model_config, TrainingConfig())
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
def test_what_is_asked_for_is_kept(machine, asked, expected):
    machine(bfloat16=True)
    config = compute.choose_compute(WIDE, TrainingConfig(**asked))
    assert (config.jit_compile, config.mixed_precision) == expected


@pytest.fixture
def threads(monkeypatch):
    """What TensorFlow was told: {"inter": threads, "intra": threads}."""
    told = {}
    for kind in ("inter", "intra"):
        name = f"set_{kind}_op_parallelism_threads"
        monkeypatch.setattr(tf.config.threading, name, functools.partial(told.__setitem__, kind))
    return told


@pytest.mark.parametrize(
    "num_cores, batch_size, parts, intra",
    [(2, 16, 2, 1), (8, 12, 6, 1), (4, 6, 3, 1), (1, 16, 1, None), (2, 7, 1, None),
     (64, 16, 1, None)],
)  # fmt: skip
def test_cores_are_shared(machine, threads, monkeypatch, num_cores, batch_size, parts, intra):
    machine()
    monkeypatch.setattr(compute, "num_cores", lambda: num_cores)
    config = compute.share_cores(WIDE, TrainingConfig(batch_size=batch_size))
    assert config.cpu_replicas == parts
    assert threads == ({"inter": parts, "intra": intra} if intra else {})


def test_cores_are_shared_as_when_the_run_began(machine, threads, monkeypatch):
    machine()
    monkeypatch.setattr(compute, "num_cores", lambda: 8)
    config = TrainingConfig(batch_size=9, cpu_replicas=3)
    assert compute.share_cores(WIDE, config) == config
    assert threads == {"inter": 3, "intra": 2}


@pytest.mark.parametrize("device, hidden_dim", [("GPU", 128), ("XPU", 128), (None, 2**11)])
def test_cores_are_not_shared(machine, threads, monkeypatch, device, hidden_dim):
    """What computes elsewhere, and models with large gradients."""
    machine(**({device: None} if device else {}))
    monkeypatch.setattr(compute, "num_cores", lambda: 2)
    config = compute.share_cores(ModelConfig(13, hidden_dim=hidden_dim), TrainingConfig())
    assert config.cpu_replicas == 1 and threads == {}


def test_description():
    config = TrainingConfig(jit_compile=False, mixed_precision="bfloat16", cpu_replicas=1)
    assert compute.describe_compute(config) == "bfloat16, TensorFlow's own kernels"
    config = TrainingConfig(jit_compile=True, mixed_precision="float32", cpu_replicas=2)
    described = "float32, compiled by XLA, 2 parts of a batch side by side"
    assert compute.describe_compute(config) == described
