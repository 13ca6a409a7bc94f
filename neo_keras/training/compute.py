"""How the arithmetic of training runs: compiled or not, in which precision, on which cores."""

import dataclasses

import tensorflow as tf

from neo_keras.cpu import cpu_features, num_cores
from neo_keras.training.flops import count_weights

# On CPUs that have instructions for it, bfloat16 through TensorFlow's own kernels (oneDNN) is as
# fast as float32 through XLA at this width, and compiles sooner. At 192 it is 13 to 18% faster, at
# 384 27 to 43%.
# XLA itself gains nothing from bfloat16 on a CPU (benchmarks/README.md).
BFLOAT16_HIDDEN_DIM = 128
BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16"}
# Each part of a batch has gradients of its own: 128 MB. A larger model was not measured.
MAX_WEIGHTS_IN_PARTS = 2**25


def share_cores(model_config, config):
    """Gives the cores of this machine to parts of a batch, instead of to one operation at a time.

    A core that computes a part by itself does not wait for the others at every operation. On two
    cores a step of the default preset takes three quarters of the time (benchmarks/README.md).

    Args:
        model_config: `ModelConfig`.
        config: `TrainingConfig`.

    Returns:
        A `TrainingConfig` whose `cpu_replicas` are not None.

    Raises:
        RuntimeError: TensorFlow has computed something already.
    """
    cores, parts = num_cores(), config.cpu_replicas
    if parts is None:
        parts = max(n for n in range(1, cores + 1) if config.batch_size % n == 0)
        on_cpu = not any(map(tf.config.get_visible_devices, ("GPU", "XPU")))
        is_small = count_weights(model_config).total <= MAX_WEIGHTS_IN_PARTS
        if not (on_cpu and is_small and 2 * parts > cores):  # or half the cores would be idle
            parts = 1
    if parts > 1:
        tf.config.threading.set_inter_op_parallelism_threads(parts)
        tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // parts))
    return dataclasses.replace(config, cpu_replicas=parts)


def choose_compute(model_config, config):
    """Fills in what a training configuration leaves open.

    Args:
        model_config: `ModelConfig`.
        config: `TrainingConfig`.

    Returns:
        A `TrainingConfig` whose `jit_compile`, `mixed_precision` and `cpu_replicas` are not None.
    """
    if gpus := tf.config.get_visible_devices("GPU"):
        fast = {"jit_compile": True, "mixed_precision": _precision_of_gpu(gpus[0])}
    elif tf.config.get_visible_devices("XPU"):
        fast = {"jit_compile": False, "mixed_precision": "float32"}
    else:
        precision = config.mixed_precision
        if precision is None:
            wide = model_config.hidden_dim >= BFLOAT16_HIDDEN_DIM and not config.jit_compile
            is_fast = wide and BFLOAT16_FEATURES & cpu_features()
            precision = "bfloat16" if is_fast else "float32"
        fast = {"jit_compile": precision != "bfloat16", "mixed_precision": precision}
    fast["cpu_replicas"] = 1  # unless `share_cores` could make room for more
    open_fields = {name: value for name, value in fast.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **open_fields)


def describe_compute(config):
    """What was chosen, for people."""
    compiler = "compiled by XLA" if config.jit_compile else "TensorFlow's own kernels"
    parts = (
        f", {config.cpu_replicas} parts of a batch side by side" if config.cpu_replicas > 1 else ""
    )
    return f"{config.mixed_precision}, {compiler}{parts}"


def _precision_of_gpu(gpu):
    """Tensor cores take float16 since Volta (compute capability 7), bfloat16 since Ampere (8)."""
    details = tf.config.experimental.get_device_details(gpu)
    major, _ = details.get("compute_capability", (0, 0))
    return "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"
