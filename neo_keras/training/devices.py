"""Which device TensorFlow computes on, and why one that was asked for is not there."""

import pathlib

import tensorflow as tf

from neo_keras.errors import FailedError, InputError

NVIDIA_DRIVER = pathlib.Path("/proc/driver/nvidia/version")
INTEL_DRIVER = pathlib.Path("/dev/dri")


def select_device(name):
    """Makes TensorFlow use one kind of device.

    Args:
        name: "auto" (whatever TensorFlow prefers), "cpu", "gpu" or "xpu".

    Raises:
        InputError: TensorFlow sees no such device.
    """
    if name == "auto":
        return
    if name != "cpu" and not tf.config.list_physical_devices(name.upper()):
        reason = {"gpu": _why_no_gpu, "xpu": _why_no_xpu}[name]()
        raise InputError(
            f"--device {name}: TensorFlow {tf.__version__} sees no {name.upper()}, for {reason}; "
            "or use --device auto"
        )
    for other in ("GPU", "XPU"):
        if other != name.upper():
            tf.config.set_visible_devices([], other)


def check_placement(model):
    """Raises `FailedError` if there is an XPU and the model's weights are not on it."""
    if not tf.config.get_visible_devices("XPU"):
        return
    for variable in model.trainable_variables:
        device = variable.value.device
        if "XPU" not in device:
            raise FailedError(
                f"{variable.path} is on {device or 'no device'}, expected the XPU: check the "
                "versions of TensorFlow and its plug-in (requirements-xpu.txt), or use --device cpu"
            )


def _why_no_gpu():
    if not tf.test.is_built_with_cuda():
        return "it is a build for CPUs: pip install -r requirements-gpu.txt"
    if not NVIDIA_DRIVER.exists():
        return "there is no NVIDIA driver: install it"
    return "CUDA's libraries are missing or too old: pip install -r requirements-gpu.txt"


def _why_no_xpu():
    if not tf.__version__.startswith("2.15."):
        return (
            "Intel's plug-in is for TensorFlow 2.15: `make xpu`, and run with .venv-xpu/bin/python"
        )
    if not INTEL_DRIVER.exists():
        return "there is no driver of an Intel GPU (/dev/dri): install it"
    return (
        "the plug-in is the one for CPUs, or the Level Zero driver or the oneAPI 2025 runtime is "
        "missing: `make xpu`, and install what its lines on stderr name"
    )
