"""How the arithmetic of training runs: compiled by XLA or not, in float32 or bfloat16."""

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
        details = tf.config.experimental.get_device_details(gpus[0])
        has_bfloat16 = details.get("compute_capability", (0, 0)) >= (8, 0)
        fast = {"jit_compile": True, "mixed_precision": has_bfloat16}
    elif tf.config.get_visible_devices("XPU"):
        fast = {"jit_compile": False, "mixed_precision": False}
    else:
        bfloat16 = config.mixed_precision
        if bfloat16 is None and not config.jit_compile:
            bfloat16 = model_config.hidden_dim >= BFLOAT16_HIDDEN_DIM and _cpu_has_bfloat16()
        fast = {"jit_compile": not bfloat16, "mixed_precision": bool(bfloat16)}
    open_fields = {name: value for name, value in fast.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **open_fields)


def describe_compute(config):
    """What was chosen, for people."""
    compiler = "compiled by XLA" if config.jit_compile else "TensorFlow's own kernels"
    return f"{'bfloat16' if config.mixed_precision else 'float32'}, {compiler}"


def _cpu_has_bfloat16():
    try:
        flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
