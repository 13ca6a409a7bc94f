"""The fastest kernels are measured once, remembered, and the training does not notice."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_models import SHAPE

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.training import tune as module
from neo_keras.training.dataset import training_dataset
from neo_keras.training.resolve import Machine, resolve
from neo_keras.training.train_step import make_train_step
from neo_keras.training.tune import tune

MODEL = ModelConfig(**{**SHAPE, "max_seq_len": 7, "num_layers": 1, "max_ngram": 1, "dropout": 0.2})
MACHINE = Machine(num_cores=2, cpu_features=frozenset({"avx512_bf16"}))
ASKED = TrainingConfig(batch_size=3, steps=11, cpu_replicas=1)
OWN, BFLOAT16 = "float32, TensorFlow's own kernels", "bfloat16, TensorFlow's own kernels"
XLA = "float32, compiled by XLA"


def make_training(batch_size, seed, steps):
    token_ids = np.random.default_rng(5).integers(13, size=200)
    return training_dataset(token_ids, 7, batch_size, seed, steps)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(module, "OPERATIONS_PER_SECOND", 1.0)  # any training is long
    return tmp_path


@pytest.fixture
def timed(cache, monkeypatch):
    """What was timed; a step in bfloat16 takes least."""
    names, seconds = [], {OWN: 0.3, BFLOAT16: 0.1, XLA: 0.2}

    def time_step(train_step, dataset):
        names.append(module.describe_compute(train_step.config))
        return 1.0, seconds[names[-1]]

    monkeypatch.setattr(module, "_time_step", time_step)
    return names


def tuned(asked=ASKED, machine=MACHINE):
    config, train_step, milliseconds = tune(
        MODEL, asked, resolve(MODEL, asked, machine=machine), machine, make_training
    )
    assert train_step.config == config
    return module.describe_compute(config), milliseconds


def test_the_fastest_is_measured_once(timed):
    first = tuned()
    assert first == (BFLOAT16, {OWN: 300, BFLOAT16: 100, XLA: 200})
    assert sorted(timed) == sorted([XLA, OWN, BFLOAT16])
    assert tuned() == first and len(timed) == 3
    asked = dataclasses.replace(ASKED, batch_size=4)
    tuned(asked)
    assert len(timed) == 6


@pytest.mark.parametrize(
    "changes, machine, expected",
    [
        ({"mixed_precision": "float32"}, MACHINE, XLA),
        ({"jit_compile": False}, Machine(num_cores=2), OWN),
        ({"jit_compile": False}, MACHINE, BFLOAT16),
        ({"jit_compile": True, "mixed_precision": "float32"}, MACHINE, XLA),
    ],
)
def test_what_is_asked_for_stays(timed, changes, machine, expected):
    assert tuned(dataclasses.replace(ASKED, **changes), machine)[0] == expected


def test_a_short_training_is_not_worth_it(timed, monkeypatch):
    monkeypatch.setattr(module, "OPERATIONS_PER_SECOND", 50e9)
    assert tuned() == (XLA, {}) and not timed


@pytest.mark.parametrize("machine", [Machine("XPU"), Machine(num_devices=3)], ids=["XPU", "shared"])
def test_other_devices_have_their_rule(timed, machine):
    assert tuned(machine=machine)[1] == {} and not timed


def test_what_compiles_too_long_is_left_out(timed, monkeypatch):
    monkeypatch.setattr(module, "MAX_SECONDS", 0.9)
    assert tuned()[0] == BFLOAT16  # a hundredth of the training is longer than that
    monkeypatch.setattr(module, "MAX_SHARE", 0)
    assert tuned(dataclasses.replace(ASKED, batch_size=5)) == (XLA, {XLA: 200})


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "b"}', "{}"])
def test_a_damaged_cache_is_measured_again(timed, cache, content):
    tuned()
    (path,) = (cache / "kernels").iterdir()
    path.write_text(content)
    assert tuned()[0] == BFLOAT16 and len(timed) == 6
    assert json.loads(path.read_text()) == {OWN: 300, BFLOAT16: 100, XLA: 200}


def test_a_cache_that_cannot_be_written(timed, cache):
    (cache / "kernels").write_text("a file")
    assert tuned()[0] == BFLOAT16


def test_the_training_is_as_if_nothing_had_been_measured(cache):
    asked = dataclasses.replace(ASKED, steps_per_execution=2)
    config = resolve(MODEL, asked)
    _, train_step, milliseconds = tune(MODEL, asked, config, Machine(), make_training)
    assert milliseconds.keys() == {OWN, XLA} and min(milliseconds.values()) > 0
    losses = train_step.fit(make_training(3, 1, 11), shuffle=False, verbose=0).history["loss"]
    fresh = module.make_train_step(MODEL, train_step.config)
    expected = fresh.fit(make_training(3, 1, 11), shuffle=False, verbose=0).history["loss"]
    assert losses == expected
    for found, weights in zip(train_step.get_weights(), fresh.get_weights()):
        np.testing.assert_array_equal(found, weights)


def test_as_many_steps_are_timed_as_a_call_takes():
    """A call takes fewer than the configuration says where validations come more often."""
    config = resolve(MODEL, dataclasses.replace(ASKED, eval_every=3, sample_every=0))
    train_step, taken = make_train_step(MODEL, config), []

    class Dataset:
        def take(self, num_steps):
            taken.append(num_steps)
            return make_training(config.batch_size, 1, num_steps)

    before = train_step.get_weights()
    module._time_step(train_step, Dataset())
    assert config.steps_per_execution > 1 and taken == [1, 1, 1, 1]
    for value, expected in zip(train_step.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)
