"""Muon or AdamW, with warm-up and a decay to the last step."""

import keras

# Of the iteration that makes a matrix nearly orthogonal. Muon's author takes 5; 3 train as well
# here, and cost less. Adam's part learns faster at twice the rate (benchmarks/README.md).
NEWTON_SCHULZ_STEPS = 3
ADAM_RATE = 2.0  # times Muon's


@keras.saving.register_keras_serializable("neo_keras")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up, then a straight line to the last step.

    Args:
        peak: the learning rate after the warm-up.
        final: the learning rate at the last step.
        warmup_steps: from `peak / (warmup_steps + 1)` to `peak`.
        steps: of the whole run.
    """

    def __init__(self, peak, final, warmup_steps, steps):
        self.peak = peak
        self.final = final
        self.warmup_steps = warmup_steps
        self.steps = steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        rising = self.peak * (step + 1) / (self.warmup_steps + 1)
        left = (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        falling = self.final + (self.peak - self.final) * keras.ops.clip(left, 0, 1)
        return keras.ops.minimum(rising, falling)

    def get_config(self):
        return dict(vars(self))


def make_optimizer(config, model):
    """The optimizer of a training configuration.

    Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) is for the matrices of the blocks.
    Its steps are scaled as by Liu et al. 2025 (arXiv:2502.16982), so that one learning rate does
    for all widths and, times `ADAM_RATE`, for Adam, which is for all else.

    Weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) is for matrices, under Muon only those
    of the blocks; scales, biases and embeddings have none. But the n-gram table has a strong one
    under Muon, which makes it forget n-grams that are too rare to be learned from.

    Args:
        config: `TrainingConfig`.
        model: the built model to optimize.

    Returns:
        `keras.optimizers.Muon` or `keras.optimizers.AdamW`.
    """
    schedule = _make_schedule(config)
    if config.optimizer == "muon":
        optimizer = keras.optimizers.Muon(
            schedule,
            adam_lr_ratio=ADAM_RATE,
            adam_beta_2=config.beta_2,
            adam_weight_decay=config.ngram_decay,
            weight_decay=config.weight_decay,
            global_clipnorm=config.clip_norm,
            ns_steps=NEWTON_SCHULZ_STEPS,
        )
    else:
        optimizer = keras.optimizers.AdamW(
            schedule,
            weight_decay=config.weight_decay,
            beta_2=config.beta_2,
            global_clipnorm=config.clip_norm,
        )
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if not _decays(v, config.optimizer)]
    )
    return optimizer


def _decays(variable, optimizer):
    if optimizer == "muon" and "embedding" in variable.path:  # what Muon leaves to Adam
        return variable.path.endswith("ngram_embedding/table/embeddings")
    return len(variable.shape) == 2 and not variable.path.endswith("/embeddings")


def _make_schedule(config):
    warmup_steps = min(config.warmup_steps, config.steps // 10)
    final = min(config.final_learning_rate, config.learning_rate)
    if config.schedule == "linear":
        return LinearDecay(config.learning_rate, final, warmup_steps, config.steps)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=config.learning_rate / (warmup_steps + 1),
        warmup_target=config.learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(config.steps - warmup_steps, 1),
        alpha=final / config.learning_rate,
    )
