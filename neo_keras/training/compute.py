"""What training computes on: which device, which cores, in which precision."""

import contextlib
import pathlib

import tensorflow as tf

from neo_keras.environment import cpu_features, num_cores
from neo_keras.errors import FailedError, InputError
from neo_keras.training.resolve import Machine

NVIDIA_DRIVER = pathlib.Path("/proc/driver/nvidia/version")
INTEL_DRIVER = pathlib.Path("/dev/dri")


def select_device(name):
    """Makes TensorFlow use "cpu", "gpu" or "xpu"; raises `InputError` if it sees none."""
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


def this_machine(strategy=None):
    """The `Machine` for a training under a `tf.distribute.Strategy`, or on one device."""
    device = next(filter(tf.config.get_visible_devices, ("GPU", "XPU")), "CPU")
    gpus = tf.config.get_visible_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    is_distributed = strategy not in (None, tf.distribute.get_strategy())
    return Machine(
        device,
        compute_capability=details.get("compute_capability", (0, 0)),
        cpu_features=frozenset(cpu_features()),
        num_cores=1 if is_distributed or device != "CPU" else _num_cores_to_share(),
        num_devices=strategy.num_replicas_in_sync if is_distributed else None,
    )


def _num_cores_to_share():
    """1 if TensorFlow has computed already: then its threads stay, unless they were set here."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(num_cores())
        return num_cores()
    return 1


def share_cores(num_replicas):
    """Gives the cores to replicas of a batch, instead of to one operation at a time.

    On two cores a step of the default preset takes three quarters of the time (docs/lab_notes.md).
    """
    if num_replicas > 1:
        with contextlib.suppress(RuntimeError):  # TensorFlow has computed something already
            threads = max(1, num_cores() // num_replicas)
            tf.config.threading.set_intra_op_parallelism_threads(threads)


def describe_compute(config):
    """What was chosen, for people."""
    compiler = "compiled by XLA" if config.jit_compile else "TensorFlow's own kernels"
    replicas = f", {config.cpu_replicas} CPU replicas" if config.cpu_replicas > 1 else ""
    return f"{config.mixed_precision}, {compiler}{replicas}"


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
