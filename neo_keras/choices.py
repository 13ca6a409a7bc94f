"""What a configuration can name: tables, each row with all that the rest must know of its name.

A function in a row is given `keras.ops` or `keras.optimizers`: nothing here imports Keras.
"""

import dataclasses
import math
from collections.abc import Callable

ARCHITECTURES = ("decoder-only", "encoder-decoder")
POSITIONS = ("rope", "learned", "sinusoidal")
NORMS = {"rms": 1e-6, "layer": 1e-5}  # with the epsilon of each
NORM_POSITIONS = ("pre", "post")


@dataclasses.dataclass(frozen=True)
class Activation:
    function: Callable  # of (ops, x) or, of a gated one, (ops, gate, x)
    num_kept: int  # tensors of the shape of x that its backward pass needs
    is_gated: bool = False  # whether a second dense layer, beside the first, gives the gate


ACTIVATIONS = {
    # So et al. 2021, arXiv:2109.08668.
    "relu_squared": Activation(lambda ops, x: ops.square(ops.relu(x)), num_kept=2),
    "relu": Activation(lambda ops, x: ops.relu(x), num_kept=1),
    "gelu": Activation(lambda ops, x: ops.gelu(x, approximate=False), num_kept=4),  # by erf
    "gelu_tanh": Activation(lambda ops, x: ops.gelu(x, approximate=True), num_kept=5),
    # Shazeer 2020, arXiv:2002.05202. Not ops.silu: a SavedModel would get a tensor of its gradient.
    "swiglu": Activation(
        lambda ops, gate, x: gate * ops.sigmoid(gate) * x, num_kept=4, is_gated=True
    ),
    "geglu": Activation(
        lambda ops, gate, x: ops.gelu(gate, approximate=True) * x, num_kept=7, is_gated=True
    ),
}


# The matrices of a block that `model.lora` can give an adapter, and where they are in it.
LORA_KERNELS = {
    "qkv": "attention/qkv/kernel",
    "output": "attention/output/kernel",
    "expand": "feed_forward/expand/kernel",
    "contract": "feed_forward/contract_kernel",
}
LORA_TARGETS = {"attention": ("qkv", "output"), "all": tuple(LORA_KERNELS)}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer of Keras, and what suits it. The rates were measured (docs/lab_notes.md)."""

    make: Callable  # of (keras.optimizers, `TrainingConfig`, **settings that all of them have)
    learning_rate: float  # at its highest
    max_warmup_steps: int  # a tenth of the training is warm-up, but so many steps at most
    weight_decay: float | None  # None if it has none
    num_moments: tuple  # kept for each weight: in a matrix of a block, and anywhere else


OPTIMIZERS = {
    # Muon for the matrices of the blocks, Adam for all else; of that only the n-gram table decays.
    # Jordan et al. 2024 (kellerjordan.github.io/posts/muon), its steps scaled as by Liu et al. 2025
    # (arXiv:2502.16982), so that one learning rate suits all widths and, twice as high, Adam. 3
    # Newton-Schulz iterations train as well here as the usual 5 (docs/lab_notes.md).
    "muon": Optimizer(
        lambda optimizers, config, **settings: optimizers.Muon(
            ns_steps=3, adam_lr_ratio=2.0, adam_beta_2=config.beta_2,
            adam_weight_decay=config.ngram_weight_decay, weight_decay=config.weight_decay,
            **settings,
        ),
        learning_rate=5e-3, max_warmup_steps=10, weight_decay=0.0, num_moments=(1, 2),
    ),
    "adamw": Optimizer(  # Loshchilov & Hutter 2019, arXiv:1711.05101
        # Keras computes a decay of 0, too: thousands of operations where variables are many.
        lambda optimizers, config, **settings: (
            optimizers.AdamW(weight_decay=config.weight_decay, beta_2=config.beta_2, **settings)
            if config.weight_decay
            else optimizers.Adam(beta_2=config.beta_2, **settings)
        ),
        learning_rate=3e-3, max_warmup_steps=100, weight_decay=0.1, num_moments=(2, 2),
    ),
    "adam": Optimizer(
        lambda optimizers, config, **settings: optimizers.Adam(beta_2=config.beta_2, **settings),
        learning_rate=3e-3, max_warmup_steps=100, weight_decay=None, num_moments=(2, 2),
    ),
    "sgd": Optimizer(  # with Nesterov's momentum (Sutskever et al. 2013)
        lambda optimizers, config, **settings: optimizers.SGD(
            momentum=0.9, nesterov=True, weight_decay=config.weight_decay, **settings
        ),
        learning_rate=3e-1, max_warmup_steps=100, weight_decay=0.0, num_moments=(1, 1),
    ),
}  # fmt: skip


def _to_final(shape):
    """From `peak` to `final` at the last step; shape: of (ops, x) where x falls from 1 to 0."""

    def rate(ops, step, schedule):
        steps_after_warmup = max(schedule.steps - schedule.warmup_steps, 1)
        left = ops.clip((schedule.steps - step) / steps_after_warmup, 0, 1)
        return schedule.final + (schedule.peak - schedule.final) * shape(ops, left)

    return rate


# The learning rate after the warm-up: of (ops, step, `training.optimizer.Schedule`).
SCHEDULES = {
    "linear": _to_final(lambda ops, left: left),
    # Loshchilov & Hutter 2017, arXiv:1608.03983.
    "cosine": _to_final(lambda ops, left: (1 - ops.cos(math.pi * left)) / 2),
    # Warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395): linear in the last fifth.
    "wsd": _to_final(lambda ops, left: ops.minimum(left / 0.2, 1)),
    "constant": lambda ops, step, schedule: schedule.peak,
    # Vaswani et al. 2017, arXiv:1706.03762, where the peak is 1 / sqrt(hidden_dim * warm-up), and
    # the warm-up one step longer than here.
    "inverse-sqrt": lambda ops, step, schedule: (
        schedule.peak * ops.sqrt((schedule.warmup_steps + 1) / (step + 1))
    ),
}


@dataclasses.dataclass(frozen=True)
class Precision:
    """Of arithmetic; weights are float32."""

    policy: str  # Keras' name of it
    num_bytes: int  # of a number
    loss_scale: bool = False  # whether small gradients must be scaled up, not to vanish


PRECISIONS = {
    "float32": Precision("float32", 4),
    "bfloat16": Precision("mixed_bfloat16", 2),
    "float16": Precision("mixed_float16", 2, loss_scale=True),
}
