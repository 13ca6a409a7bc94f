"""Which arithmetic is chosen, on machines of all kinds."""

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
        monkeypatch.setattr(compute, "_cpu_has_bfloat16", lambda: bfloat16)
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


def test_description():
    config = TrainingConfig(jit_compile=False, mixed_precision="bfloat16")
    assert compute.describe_compute(config) == "bfloat16, TensorFlow's own kernels"
    config = TrainingConfig(jit_compile=True, mixed_precision="float32")
    assert compute.describe_compute(config) == "float32, compiled by XLA"
