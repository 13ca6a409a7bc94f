"""A device that is not there is said to be missing, and why."""

import pytest
import tensorflow as tf

from neo_keras.errors import FailedError, InputError
from neo_keras.training import compute


@pytest.mark.parametrize(
    ("with_cuda", "with_driver", "reason"),
    [
        (False, True, "a build for CPUs: pip install -r requirements-gpu.txt"),
        (True, False, "no NVIDIA driver"),
        (True, True, "CUDA's libraries are missing"),
    ],
)
def test_no_gpu(monkeypatch, tmp_path, with_cuda, with_driver, reason):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: with_cuda)
    driver = tmp_path if with_driver else tmp_path / "missing"
    monkeypatch.setattr(compute, "NVIDIA_DRIVER", driver)
    with pytest.raises(InputError, match=f"--device gpu: .* sees no GPU, for .*{reason}"):
        compute.select_device("gpu")


@pytest.mark.parametrize(
    ("version", "with_driver", "reason"),
    [
        ("2.21.0", True, "plug-in is for TensorFlow 2.15: `make xpu`"),
        ("2.15.1", False, "no driver of an Intel GPU"),
        ("2.15.1", True, "oneAPI 2025 runtime is missing"),
    ],
)
def test_no_xpu(monkeypatch, tmp_path, version, with_driver, reason):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(tf, "__version__", version)
    driver = tmp_path if with_driver else tmp_path / "missing"
    monkeypatch.setattr(compute, "INTEL_DRIVER", driver)
    with pytest.raises(InputError, match=reason):
        compute.select_device("xpu")


def test_weights_that_are_not_on_the_xpu(monkeypatch):
    class Value:
        device = "/job:localhost/replica:0/task:0/device:CPU:0"

    class Variable:
        path, value = "gpt/block_0/kernel", Value

    class Model:
        trainable_variables = [Variable]

    compute.check_placement(Model)  # there is no XPU: nothing to check
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind])
    with pytest.raises(FailedError, match="gpt/block_0/kernel is on .*CPU:0, expected the XPU"):
        compute.check_placement(Model)
    Value.device = "/job:localhost/replica:0/task:0/device:XPU:0"
    compute.check_placement(Model)
