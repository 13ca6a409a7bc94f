"""The learning rate from the first step to the last."""

import math

import keras
from keras import ops

WSD_DECAY_SHARE = 0.2  # of the steps after the warm-up


@keras.saving.register_keras_serializable("neo_keras")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A straight warm-up to `peak`, then a way down that has a name:

        linear         a straight line to `final` at the last step
        cosine         half a cosine to `final` (Loshchilov & Hutter 2017, arXiv:1608.03983)
        wsd            at the peak, but for a straight line to `final` over the last fifth
                       (warm-up, stable, decay: Hu et al. 2024, arXiv:2404.06395)
        constant       at the peak
        inverse-sqrt   as 1 / sqrt(step) (Vaswani et al. 2017, arXiv:1706.03762). That paper's
                       peak is 1 / sqrt(hidden_dim * warm-up), its warm-up one more than here.

    Args:
        name: one of these.
        peak: the learning rate after the warm-up.
        final: the learning rate at the last step, where there is a way to it.
        warmup_steps: from `peak / (warmup_steps + 1)` to `peak`.
        steps: of the whole run.
    """

    def __init__(self, name, peak, final, warmup_steps, steps):
        self.name = name
        self.peak = peak
        self.final = final
        self.warmup_steps = warmup_steps
        self.steps = steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rising = self.peak * (step + 1) / (self.warmup_steps + 1)
        return ops.minimum(rising, self._after_warmup(step))

    def _after_warmup(self, step):
        if self.name == "constant":
            return self.peak
        if self.name == "inverse-sqrt":
            return self.peak * ops.sqrt((self.warmup_steps + 1) / (step + 1))
        left = (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        if self.name == "wsd":
            left = left / WSD_DECAY_SHARE
        left = ops.clip(left, 0, 1)
        if self.name == "cosine":
            left = (1 - ops.cos(math.pi * left)) / 2
        return self.final + (self.peak - self.final) * left

    def get_config(self):
        return dict(vars(self))
