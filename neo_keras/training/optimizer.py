"""The optimizers, what weight decay is for, and the average of the weights."""

import contextlib

import keras

from neo_keras.training.schedule import Schedule

# Of the iteration that makes a matrix nearly orthogonal. Muon's author takes 5; 3 train as well
# here, and cost less. Adam's part learns faster at twice the rate (benchmarks/README.md).
NEWTON_SCHULZ_STEPS = 3
ADAM_RATE = 2.0  # times Muon's
SGD_MOMENTUM = 0.9


def make_optimizer(config, model):
    """The optimizer of a training configuration.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) is for the matrices of the blocks.
    Its steps are scaled as by Liu et al. 2025 (arXiv:2502.16982), so that one learning rate does
    for all widths and, times `ADAM_RATE`, for Adam, which is for all else. SGD has Nesterov's
    momentum (Sutskever et al. 2013). Adam is AdamW without weight decay.

    Weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) is for matrices, under Muon only those
    of the blocks; scales, biases and embeddings have none. But the n-gram table has a strong one
    under Muon, which makes it forget n-grams that are too rare to be learned from.

    Args:
        config: `TrainingConfig`.
        model: the built model to optimize.

    Returns:
        `keras.optimizers.Muon`, `AdamW`, `Adam` or `SGD`; for float16 in a `LossScale`.
    """
    final = min(config.final_learning_rate, config.learning_rate)
    settings = {
        "learning_rate": Schedule(
            config.schedule, config.learning_rate, final, config.warmup_steps, config.steps
        ),
        "global_clipnorm": config.clip_norm,
        "use_ema": config.ema > 0,
        "ema_momentum": config.ema,
    }
    if config.optimizer == "muon":
        optimizer = keras.optimizers.Muon(
            adam_lr_ratio=ADAM_RATE,
            adam_beta_2=config.beta_2,
            adam_weight_decay=config.ngram_weight_decay,
            weight_decay=config.weight_decay,
            ns_steps=NEWTON_SCHULZ_STEPS,
            **settings,
        )
    elif config.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(
            weight_decay=config.weight_decay, beta_2=config.beta_2, **settings
        )
    elif config.optimizer == "adam":
        optimizer = keras.optimizers.Adam(beta_2=config.beta_2, **settings)
    else:
        optimizer = keras.optimizers.SGD(
            momentum=SGD_MOMENTUM, nesterov=True, weight_decay=config.weight_decay, **settings
        )
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if not _decays(v, config.optimizer)]
    )
    return LossScale(optimizer) if config.mixed_precision == "float16" else optimizer


def _decays(variable, optimizer):
    if optimizer == "muon" and "embedding" in variable.path:  # what Muon leaves to Adam
        return variable.path.endswith("ngram_embedding/table/embeddings")
    return len(variable.shape) == 2 and not variable.path.endswith("/embeddings")


@keras.saving.register_keras_serializable("neo_keras")
class LossScale(keras.optimizers.LossScaleOptimizer):
    """Keeps the gradients within what float16 can hold; where they are not, it skips the step.

    A skipped step counts, too: batches, dropout and the schedule are functions of the step.
    """

    def apply(self, grads, trainable_variables=None):
        next_step = self.iterations + 1
        super().apply(grads, trainable_variables)
        self.iterations.assign(next_step)


@contextlib.contextmanager
def averaged_weights(model):
    """Within the block the model has the average of its weights, where its optimizer keeps one.

    The weights that come back are those that were, to the last bit: Keras' `SwapEMAWeights` adds
    and subtracts, and rounding would make a resumed run another one.

    Args:
        model: a compiled model that was trained for a step at least.
    """
    if not getattr(model.optimizer, "inner_optimizer", model.optimizer).use_ema:
        yield
        return
    weights = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(weights)
