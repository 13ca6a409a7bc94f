"""Stopped inside an epoch and resumed; stopped early; diverged. In this process, without XLA."""

import collections

import keras
import pytest
from short_runs import SHAPE, different_arrays, read_checkpoint, stop_at, train_here

from neo_keras.errors import FailedError, InputError
from neo_keras.training import dataset
from neo_keras.training.callbacks import out_of_patience
from neo_keras.training.train_step import TrainStep

SEQ_LEN = SHAPE["max_seq_len"]
BATCH_SIZE = 29
# 5,400 characters are 316 windows of 17: an epoch is 10 batches and 26 windows.
NUM_WINDOWS = 316
SETTINGS = dict(batch_size=BATCH_SIZE, epochs=1, eval_every=4, dropout=0.1, max_ngram=2,
                ngram_rows=53, steps_per_execution=1)  # fmt: skip


@pytest.mark.parametrize(
    "optimizer, schedule, ema",
    [
        ("muon", "linear", 0.0),
        pytest.param("adam", "inverse-sqrt", 0.9, marks=pytest.mark.exhaustive),
        pytest.param("adamw", "cosine", 0.0, marks=pytest.mark.exhaustive),
        pytest.param("sgd", "wsd", 0.9, marks=pytest.mark.exhaustive),
        pytest.param("muon", "constant", 0.9, marks=pytest.mark.exhaustive),
    ],
)
def test_resumed_inside_an_epoch(corpus_file, tmp_path, optimizer, schedule, ema):
    """The weights, the optimizer and the average are those of a run that never stopped."""
    settings = {**SETTINGS, "optimizer": optimizer, "schedule": schedule, "ema": ema}
    undisturbed, metrics = train_here(tmp_path / "undisturbed", corpus_file, **settings)
    assert metrics["step"] == 11
    run, metrics = train_here(tmp_path / "run", corpus_file, [stop_at(5)], stopped_by=2, **settings)
    assert metrics["step"] == 5
    train_here(run.path, corpus_file, resume=True)
    assert different_arrays(run.last, undisturbed.last) == []
    assert different_arrays(run.best, undisturbed.best) == []
    rates = [row["learning_rate"] for row in run.read_history()]
    assert [row["step"] for row in run.read_history()] == [4, 5, 8, 11]
    del rates[1]  # where it was stopped
    assert rates == [row["learning_rate"] for row in undisturbed.read_history()]
    assert (len(set(rates)) == 1) == (schedule == "constant")


def test_two_sessions_see_every_window_of_an_epoch_once(corpus_file, tmp_path, monkeypatch):
    batches = {}  # step -> windows, of whoever trained on it

    def recorded(*arguments):
        batches_of_run = training_dataset(*arguments)
        for step, (rows, targets) in enumerate(batches_of_run.as_numpy_iterator(), arguments[-1]):
            batches[step] = [(*row, target[-1]) for row, target in zip(rows, targets)]
        return batches_of_run

    training_dataset = dataset.training_dataset
    monkeypatch.setattr(dataset, "training_dataset", recorded)
    run, _ = train_here(tmp_path / "run", corpus_file, [stop_at(5)], stopped_by=2, **SETTINGS)
    for step in range(5, 11):
        del batches[step]  # it stopped before these
    train_here(run.path, corpus_file, resume=True)
    assert list(batches) == list(range(11))
    windows = [window for batch in batches.values() for window in batch]
    assert len(windows) == 11 * BATCH_SIZE == NUM_WINDOWS + 3

    text = run.load_tokenizer().encode(corpus_file.read_text()[:5400]).tolist()
    cuts = [
        collections.Counter(
            tuple(text[start : start + SEQ_LEN + 1])
            for start in range(offset, offset + NUM_WINDOWS * SEQ_LEN, SEQ_LEN)
        )
        for offset in range(SEQ_LEN)
    ]
    assert collections.Counter(windows[:NUM_WINDOWS]) in cuts


@pytest.mark.parametrize(
    "losses, patience, expected",
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0], 1, False),
        ([3.0, 3.0], 1, True),  # as low is not lower
        ([3.0, None, 2.0, None], 1, False),  # a row that was not evaluated is none
        ([2.0, 3.0], 2, False),
        ([2.0, 3.0, 2.5], 2, True),
        ([2.0, 3.0, 2.5, 2.0], 2, True),
        ([2.0, 3.0, 2.5, 1.5], 2, False),
        ([2.0, 3.0, 2.5, 2.7], 0, False),
    ],
)
def test_patience(losses, patience, expected):
    assert out_of_patience([{"val_loss": loss} for loss in losses], patience) is expected


@pytest.fixture
def losses_are(monkeypatch):
    """Makes validations give these losses in turn."""

    def make(*losses):
        losses = iter(losses)
        monkeypatch.setattr(TrainStep, "evaluate", lambda *args, **kwargs: next(losses))

    return make


PATIENT = dict(steps=40, eval_every=5, patience=2, max_ngram=1, steps_per_execution=1,
               num_speculative_tokens=0)  # fmt: skip


def test_stops_early_and_keeps_the_best(corpus_file, tmp_path, losses_are):
    losses_are(3.0, 2.0, 2.5, 2.0, 9.0)
    weights = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: weights.append(keep.model.get_weights())
    )
    run, metrics = train_here(
        tmp_path / "run", corpus_file, [keep], sliding_window_eval=True, **PATIENT
    )
    assert (metrics["step"], metrics["best_step"], metrics["stopped_early"]) == (20, 10, True)
    assert (metrics["best_val_loss"], metrics["val_loss_sliding"]) == (2.0, 9.0)
    assert (run.load_model().get_weights()[1] == weights[10 - 1][1]).all()
    assert int(read_checkpoint(run.last)["optimizer/vars/0"]) == 20
    before = {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    with pytest.raises(InputError, match="stopped early at step 20, as 2 val.* --patience 0"):
        train_here(run.path, corpus_file, resume=True)
    assert {path: path.read_bytes() for path in before} == before


def test_patience_outlives_a_stop(corpus_file, tmp_path, losses_are):
    losses_are(2.0, 3.0, 3.0, 1.0)
    run, metrics = train_here(tmp_path / "run", corpus_file, [stop_at(10)], stopped_by=2, **PATIENT)
    assert (metrics["step"], metrics["stopped_early"]) == (10, False)
    _, metrics = train_here(run.path, corpus_file, resume=True)
    assert (metrics["step"], metrics["stopped_early"]) == (15, True)


def test_more_patience_goes_on(corpus_file, tmp_path, losses_are):
    losses_are(2.0, 3.0, 3.0, 1.0, 2.0, 2.0, 2.0, 2.0)
    run, metrics = train_here(tmp_path / "run", corpus_file, **PATIENT)
    assert metrics["step"] == 15
    _, metrics = train_here(run.path, corpus_file, resume=True, patience=3)
    assert (metrics["step"], metrics["best_step"], metrics["stopped_early"]) == (35, 20, True)
    _, metrics = train_here(run.path, corpus_file, resume=True, patience=0)
    assert (metrics["step"], metrics["stopped_early"]) == (40, False)


def test_a_diverged_training_keeps_the_checkpoints(corpus_file, tmp_path):
    def diverge(batch, logs):
        if spoil.model.optimizer.iterations == 5:
            weights = spoil.model.trainable_variables[0]
            weights.assign(weights * float("nan"))

    spoil = keras.callbacks.LambdaCallback(on_train_batch_end=diverge)
    path = tmp_path / "run"
    with pytest.raises(FailedError, match="no finite number .* step 10: .* below 0.003"):
        train_here(path, corpus_file, [spoil], optimizer="adamw", **PATIENT)
    assert int(read_checkpoint(path / "last.keras")["optimizer/vars/0"]) == 5
    _, metrics = train_here(path, corpus_file, resume=True)
    assert metrics["step"] == 40


def test_a_validation_that_is_no_number(corpus_file, tmp_path, losses_are):
    losses_are(2.0, float("nan"))
    with pytest.raises(FailedError, match="no finite number any more at step 10"):
        train_here(tmp_path / "run", corpus_file, **PATIENT)
