"""The average of the weights: what it is, who gets it, and that training never notices it."""

import keras
import numpy as np
import pytest
from short_runs import different_arrays, read_checkpoint, stop_at, train_here
from tolerances import assert_close

from neo_keras.generation.callback import SampleText
from neo_keras.model.weights import averaged_weights
from neo_keras.training.dataset import validation_dataset
from neo_keras.training.train_step import make_train_step

DECAY = 0.7
# Without lookahead: the best model has all the weights that training has.
SETTINGS = dict(steps=11, eval_every=4, steps_per_execution=1, dropout=0.1, max_ngram=2,
                ngram_rows=53, num_future_tokens=0)  # fmt: skip


class KeepWeights(keras.callbacks.Callback):
    """The weights themselves after every step."""

    def __init__(self):
        super().__init__()
        self.after_step = []

    def on_train_batch_end(self, batch, logs=None):
        self.after_step.append(self.model.get_weights())


@pytest.fixture(scope="module")
def averaged(corpus_file, tmp_path_factory):
    """(RunDirectory, weights after each step) of a run with an average."""
    keep = KeepWeights()
    path = tmp_path_factory.mktemp("ema") / "run"
    run, _ = train_here(path, corpus_file, [keep], ema=DECAY, **SETTINGS)
    return run, keep.after_step


def average_of(weights_after_each_step):
    """By hand: it begins with the weights after the first step."""
    average = weights_after_each_step[0]
    for weights in weights_after_each_step[1:]:
        average = [DECAY * a + (1 - DECAY) * w for a, w in zip(average, weights)]
    return average


def assert_equal_averages(weights, expected):
    for ours, theirs in zip(weights, expected, strict=True):
        assert_close(ours, theirs, additions=11)  # one at each step


def test_the_best_is_the_average_by_hand(averaged):
    run, after_step = averaged
    rows = run.read_history()
    assert [row["step"] for row in rows] == [4, 8, 11]
    best_step = min(rows, key=lambda row: row["val_loss"])["step"]
    expected = average_of(after_step[:best_step])
    distance = max(abs(e - w).max() for e, w in zip(expected, after_step[best_step - 1]))
    assert distance > 1e-3  # the weights themselves would show
    assert_equal_averages(run.load_model().get_weights(), expected)


def test_the_validation_loss_is_that_of_the_average(averaged):
    run, after_step = averaged
    model = make_train_step(run.model_config, run.training_config)
    token_ids = run.load_tokenizer().encode(run.load_validation_text())
    dataset = validation_dataset(token_ids, run.model_config.max_seq_len)
    for row in run.read_history():
        model.set_weights(average_of(after_step[: row["step"]]))
        assert row["val_loss"] == pytest.approx(model.evaluate(dataset, verbose=0), rel=1e-4)
        model.set_weights(after_step[row["step"] - 1])
        assert row["val_loss"] != pytest.approx(model.evaluate(dataset, verbose=0), rel=1e-4)


def test_training_is_that_without_an_average(averaged, corpus_file, tmp_path):
    """To the last bit, evaluations and all: neither they nor the end put the average in."""
    run, after_step = averaged
    keep = KeepWeights()
    train_here(tmp_path / "run", corpus_file, [keep], **SETTINGS)
    for ours, theirs in zip(after_step, keep.after_step, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
    model = make_train_step(run.model_config, run.training_config)
    run.load_weights(model, run.last)
    for saved, trained in zip(model.get_weights(), after_step[-1], strict=True):
        np.testing.assert_array_equal(saved, trained)


def test_a_run_stopped_before_it_was_validated_writes_with_the_average(corpus_file, tmp_path):
    keep = KeepWeights()
    run, metrics = train_here(
        tmp_path / "run", corpus_file, [keep, stop_at(3)], stopped_by=2, ema=DECAY, **SETTINGS
    )
    assert (metrics["step"], metrics["val_loss"]) == (3, None)
    assert_equal_averages(run.load_model().get_weights(), average_of(keep.after_step))
    _, metrics = train_here(run.path, corpus_file, [keep], resume=True)
    best = average_of(keep.after_step[: metrics["best_step"]])  # from now on one that was measured
    assert metrics["best_step"] >= 4
    assert_equal_averages(run.load_model().get_weights(), best)


def test_samples_are_of_the_average(averaged, monkeypatch):
    """And the weights themselves are back afterwards, though the sampling failed."""
    run, after_step = averaged
    model = make_train_step(run.model_config, run.training_config)
    run.load_weights(model, run.last)
    seen = []

    def fail(*args):
        seen.append(model.get_weights())
        raise ZeroDivisionError

    monkeypatch.setattr("neo_keras.generation.callback.generate_text", fail)
    sample = SampleText(run.load_tokenizer(), 11, show=None)
    sample.set_model(model)
    model.optimizer.iterations.assign(10)
    sample.on_train_begin()
    model.optimizer.iterations.assign(11)
    with pytest.raises(ZeroDivisionError):
        sample.on_train_batch_end(10)
    assert_equal_averages(seen[0], average_of(after_step))
    for restored, trained in zip(model.get_weights(), after_step[-1], strict=True):
        np.testing.assert_array_equal(restored, trained)


def test_without_an_average_nothing_happens(tiny_model):
    tiny_model.compile("adamw", "mse")
    weights = tiny_model.get_weights()
    with averaged_weights(tiny_model):
        np.testing.assert_array_equal(tiny_model.get_weights()[0], weights[0])


def test_the_average_is_saved_to_go_on_from(averaged, corpus_file, tmp_path):
    run, _ = averaged
    resumed, _ = train_here(
        tmp_path / "run", corpus_file, [stop_at(6)], stopped_by=2, ema=DECAY, **SETTINGS
    )
    train_here(resumed.path, corpus_file, resume=True)
    assert different_arrays(resumed.last, run.last) == []
    assert different_arrays(resumed.best, run.best) == []
    num_weights = len(read_checkpoint(run.best))
    assert len(read_checkpoint(run.last)) > 2 * num_weights
