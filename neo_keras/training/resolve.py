"""Fills in what a training configuration leaves open: every None that means "auto".

The constants were measured: docs/lab_notes.md.
"""

import dataclasses
import math

from neo_keras.choices import OPTIMIZERS
from neo_keras.errors import InputError
from neo_keras.text.packing import PackedExamples
from neo_keras.training.estimate import count_weights

MAX_FUTURE_TOKENS = 3  # about as far as a short word reaches, of characters or bytes
MAX_CHARACTERS = 256  # a vocabulary that is larger has words, or parts of them
TEMPERATURE_RISE = 0.08  # with the natural logarithm of the passes over a text
# From this width on, bfloat16 through TensorFlow's own kernels (oneDNN) is at least as fast as
# float32 through XLA, on CPUs that have instructions for it. XLA itself gains nothing from it.
BFLOAT16_HIDDEN_DIM = 128
BFLOAT16_FEATURES = {"avx512_bf16", "amx_bf16"}
# Larger models are faster in one replica, for each has gradients of its own: 128 MB here; and
# without XLA, whose matrix products are the slower ones.
MAX_SMALL_WEIGHTS = 2**25


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a training runs on."""

    device: str = "CPU"  # or "GPU" or "XPU"
    compute_capability: tuple = (0, 0)  # of a GPU, (major, minor); (0, 0) if unknown
    cpu_features: frozenset = frozenset()  # as `environment.cpu_features` names them
    num_cores: int = 1  # that replicas of a batch may share
    num_devices: int | None = None  # that share each batch under a strategy; None: there is none


def resolve(model_config, config, corpus=None, machine=Machine()):
    """A `TrainingConfig` that leaves nothing open. What it says already is kept.

    Args:
        corpus: `TokenizedCorpus`; None: for a loss of the next token alone.

    Raises:
        InputError: the devices of a strategy cannot share the batch equally.
    """
    if machine.num_devices is not None:
        config = _shared_by(machine.num_devices, config)
    optimizer = OPTIMIZERS[config.optimizer]
    values = {
        "learning_rate": optimizer.learning_rate,
        "warmup_steps": min(optimizer.max_warmup_steps, config.steps // 10),
        "weight_decay": optimizer.weight_decay or 0.0,
        "document_mask": corpus is not None and isinstance(corpus.training, PackedExamples),
        **_suited_to_text(model_config, config, corpus),
        **_suited_to_machine(model_config, config, machine),
    }
    left_open = {name: v for name, v in values.items() if getattr(config, name) is None}
    return dataclasses.replace(config, **left_open)


def _shared_by(num_devices, config):
    if config.batch_size % num_devices:
        raise InputError(
            f"the batch is shared equally by {num_devices} devices: the batch size must be "
            f"divisible by that, got {config.batch_size}: try --batch-size "
            f"{-(-config.batch_size // num_devices) * num_devices}"
        )
    # Keras fails with either when gradients cross devices inside the compiled step.
    return dataclasses.replace(config, jit_compile=False, steps_per_execution=1, cpu_replicas=1)


def _suited_to_text(model_config, config, corpus):
    """A temperature that grows with how often the text is read, and tokens as far as a word."""
    if corpus is None:
        return {"num_future_tokens": 0, "loss_temperature": 1.0}
    reach = MAX_FUTURE_TOKENS if model_config.vocab_size <= MAX_CHARACTERS else 0
    num_future_tokens = min(reach, model_config.max_seq_len - 1)
    epochs = config.steps * config.global_batch_size / corpus.num_training_rows
    loss_temperature = 1 + TEMPERATURE_RISE * math.log(max(epochs, 1))
    return {"num_future_tokens": num_future_tokens, "loss_temperature": loss_temperature}


def _suited_to_machine(model_config, config, machine):
    """What is fastest there."""
    if machine.device == "GPU":
        # Tensor cores take float16 since Volta, bfloat16 since Ampere.
        major, _ = machine.compute_capability
        fastest = "bfloat16" if major >= 8 else "float16" if major == 7 else "float32"
        values = {"mixed_precision": fastest, "jit_compile": True}
    elif machine.device == "XPU":
        values = {"mixed_precision": "float32", "jit_compile": False}
    else:
        precision = config.mixed_precision
        if precision is None:
            wide = model_config.hidden_dim >= BFLOAT16_HIDDEN_DIM and not config.jit_compile
            precision = "bfloat16" if wide and has_fast_bfloat16(machine) else "float32"
        jit_compile = precision != "bfloat16" and is_small(model_config)
        values = {"mixed_precision": precision, "jit_compile": jit_compile}
    return {**values, "cpu_replicas": _num_replicas(model_config, config, machine)}


def has_fast_bfloat16(machine):
    """Whether the CPU has instructions for it."""
    return bool(BFLOAT16_FEATURES & machine.cpu_features)


def is_small(model_config):
    return count_weights(model_config).total <= MAX_SMALL_WEIGHTS


def _num_replicas(model_config, config, machine):
    """A replica for each core, if the batch can be shared so that most of the cores have one."""
    cores = machine.num_cores
    replicas = max(n for n in range(1, cores + 1) if config.batch_size % n == 0)
    is_shared = machine.device == "CPU" and is_small(model_config) and 2 * replicas > cores
    return replicas if is_shared else 1
