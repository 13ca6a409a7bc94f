"""The optimizer, its learning rate, what weight decay is for, and the scale of a float16 loss."""

import dataclasses

import keras
from keras import ops

from neo_keras.choices import OPTIMIZERS, PRECISIONS, SCHEDULES


@keras.saving.register_keras_serializable("neo_keras")
@dataclasses.dataclass
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate: from `peak / (warmup_steps + 1)` to `peak`, then as `SCHEDULES` says."""

    name: str
    peak: float
    final: float  # at the last step
    warmup_steps: int
    steps: int  # of the whole run

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warmup = self.peak * (step + 1) / (self.warmup_steps + 1)
        return ops.minimum(warmup, SCHEDULES[self.name](ops, step, self))

    def get_config(self):
        return dataclasses.asdict(self)


def make_optimizer(config, model):
    """The optimizer of a `TrainingConfig` that leaves nothing open, for a built model.

    Weight decay is for matrices, under Muon only those of the blocks; scales, biases and embeddings
    have none. But the n-gram table has a strong one under Muon, which makes it forget n-grams that
    are too rare to be learned from. For float16 it is a `LossScale`.
    """
    peak, final = config.learning_rate, min(config.final_learning_rate, config.learning_rate)
    optimizer = OPTIMIZERS[config.optimizer].make(
        keras.optimizers,
        config,
        learning_rate=Schedule(config.schedule, peak, final, config.warmup_steps, config.steps),
        global_clipnorm=config.clip_norm,
        use_ema=config.ema > 0,
        ema_momentum=config.ema,
    )
    others = [v for v in model.trainable_variables if not _decays(v, config.optimizer)]
    optimizer.exclude_from_weight_decay(var_list=others)
    return LossScale(optimizer) if PRECISIONS[config.mixed_precision].loss_scale else optimizer


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
