"""How the arithmetic of training runs: compiled by XLA or not, and in which precision."""

import dataclasses
import pathlib

import tensorflow as tf

# On CPUs that have instructions for it, bfloat16 through TensorFlow's own kernels (oneDNN) is as
# fast as float32 through XLA at this width, and compiles sooner. At 192 it is 13 to 18% faster, at
# 384 27 to 43%.
# XLA itself gains nothing from bfloat16 on a CPU (benchmarks/README.md).
BFLOAT16_HIDDEN_DIM = 128


def choose_compute(model_config, config):
    """Fills in what a training configuration leaves open.

    Args:
        model_config: `ModelConfig`.
        config: `TrainingConfig`.

    Returns:
        A `TrainingConfig` whose `jit_compile` and `mixed_precision` are not None.
    """
    if gpus := tf.config.get_visible_devices("GPU"):
        fast = {"jit_compile": True, "mixed_precision": _precision_of_gpu(gpus[0])}
    elif tf.config.get_visible_devices("XPU"):
        fast = {"jit_compile": False, "mixed_precision": "float32"}
    else:
        precision = config.mixed_precision
        if precision is None:
            wide = model_config.hidden_dim >= BFLOAT16_HIDDEN_DIM and not config.jit_compile
            precision = "bfloat16" if wide and _cpu_has_bfloat16() else "float32"
        fast = {"jit_compile": precision != "bfloat16", "mixed_precision": precision}
    open_fields = {name: value for name, value in fast.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **open_fields)


def describe_compute(config):
    """What was chosen, for people."""
    compiler = "compiled by XLA" if config.jit_compile else "TensorFlow's own kernels"
    return f"{config.mixed_precision}, {compiler}"


def _precision_of_gpu(gpu):
    """Tensor cores take float16 since Volta (compute capability 7), bfloat16 since Ampere (8)."""
    details = tf.config.experimental.get_device_details(gpu)
    major, _ = details.get("compute_capability", (0, 0))
    return "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"


def _cpu_has_bfloat16():
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
