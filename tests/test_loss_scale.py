"""Training in float16: what it cannot hold changes nothing, and ends nothing."""

import keras
import numpy as np
import pytest
from short_runs import different_arrays, read_checkpoint, train_here

from neo_keras.errors import FailedError

SETTINGS = dict(steps=12, eval_every=4, steps_per_execution=1, mixed_precision="float16",
                dropout=0.1, ema=0.7, clip_norm=0.5, max_ngram=2, ngram_rows=53)  # fmt: skip


class Disturb(keras.callbacks.Callback):
    """Makes some steps overflow: by a scale or, in the forward pass, by the weights."""

    def __init__(self, scale=None, blown_up_steps=()):
        super().__init__()
        self.scale = scale
        self.blown_up_steps = blown_up_steps
        self.weights, self.scales, self.losses = [], [], []

    def on_train_begin(self, logs=None):
        if self.scale:
            self.model.optimizer.dynamic_scale.assign(self.scale)
        self.weights.append(self.model.get_weights())

    def on_train_batch_begin(self, batch, logs=None):
        self.norm = self.model.model.final_norm.trainable_variables[0]
        self.kept = self.norm.numpy()
        if batch in self.blown_up_steps:
            self.norm.assign(self.kept * 1e30)

    def on_train_batch_end(self, batch, logs=None):
        if batch in self.blown_up_steps:
            self.norm.assign(self.kept)
        self.weights.append(self.model.get_weights())
        self.scales.append(float(self.model.optimizer.dynamic_scale.numpy()))
        self.losses.append(float(logs["loss"]))


def trainable_equal(weights, others):
    """But for the states of dropout, which are of whole numbers."""
    return all(np.array_equal(*pair) for pair in zip(weights, others) if pair[0].dtype == "float32")


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_gradients_that_overflow_are_skipped(corpus_file, tmp_path, accumulate):
    disturb = Disturb(scale=2.0**60)
    run, metrics = train_here(
        tmp_path / "run", corpus_file, [disturb], **{**SETTINGS, "steps": 60},
        gradient_accumulation_steps=accumulate,
    )  # fmt: skip
    num_skipped = int(np.argmin(np.diff([2.0**60, *disturb.scales]) < 0))  # one after another
    assert 20 < num_skipped < 50
    assert disturb.scales[:num_skipped] == [2.0 ** (59 - i) for i in range(num_skipped)]
    assert trainable_equal(disturb.weights[0], disturb.weights[num_skipped])
    assert not trainable_equal(disturb.weights[0], disturb.weights[num_skipped + 1])
    assert metrics["step"] == 60  # skipped steps count
    assert disturb.losses[-1] < disturb.losses[0] - 0.05


def test_a_loss_that_overflows_is_skipped(corpus_file, tmp_path):
    disturb = Disturb(blown_up_steps=(5,))
    run, metrics = train_here(tmp_path / "run", corpus_file, [disturb], **SETTINGS)
    assert trainable_equal(disturb.weights[5], disturb.weights[6])
    assert disturb.scales == [2.0**15] * 5 + [2.0**14] * 7
    assert np.isfinite(disturb.losses).all() and metrics["step"] == 12


def test_a_training_that_cannot_recover_still_ends(corpus_file, tmp_path):
    def blow_up(batch, logs):
        norm = callback.model.model.final_norm.trainable_variables[0]
        norm.assign(norm * 1e30)

    callback = keras.callbacks.LambdaCallback(on_train_batch_begin=blow_up)
    with pytest.raises(FailedError, match="no finite number any more at step 4"):
        train_here(tmp_path / "run", corpus_file, [callback], **SETTINGS)


@pytest.mark.exhaustive
def test_resumed_as_if_never_stopped(corpus_file, tmp_path):
    """Bit for bit, the scale and what it counts included."""
    disturb = Disturb(blown_up_steps=(5,))
    undisturbed, _ = train_here(tmp_path / "a", corpus_file, [disturb], **SETTINGS)
    callbacks = [Disturb(blown_up_steps=(5,)), StopAt(8)]
    run, metrics = train_here(tmp_path / "b", corpus_file, callbacks, **SETTINGS)
    assert metrics["step"] == 8
    train_here(run.path, corpus_file, resume=True)
    assert different_arrays(run.last, undisturbed.last) == []
    assert 2.0**14 in [a for a in read_checkpoint(run.last).values() if a.shape == ()]


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training |= int(self.model.optimizer.iterations) == self.step
