"""The learning rate at steps worked out by hand, and where a run has few steps."""

import keras
import pytest

from neo_keras.choices import SCHEDULES
from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.training.optimizer import Schedule
from neo_keras.training.resolve import resolve

PEAK, FINAL = 1e-2, 1e-3
STEPS, WARMUP_STEPS = 110, 10


@pytest.fixture(params=SCHEDULES)
def name(request):
    return request.param


@pytest.mark.parametrize(
    "name, step, expected",
    [
        ("linear", 35, 7.75e-3),  # a quarter of the way: three quarters are left
        ("linear", 60, 5.5e-3),
        ("linear", 85, 3.25e-3),
        ("cosine", 35, 8.681980515e-3),  # FINAL + (PEAK - FINAL) * (1 + cos 45 deg) / 2
        ("cosine", 60, 5.5e-3),
        ("cosine", 85, 2.318019485e-3),
        ("wsd", 35, PEAK),
        ("wsd", 90, PEAK),  # the last fifth begins
        ("wsd", 95, 7.75e-3),
        ("wsd", 100, 5.5e-3),
        ("wsd", 105, 3.25e-3),
        ("constant", 60, PEAK),
        ("constant", 110, PEAK),
        ("inverse-sqrt", 43, PEAK / 2),  # sqrt(11 / 44)
        ("inverse-sqrt", 98, PEAK / 3),
    ],
)
def test_the_way_down(name, step, expected):
    schedule = Schedule(name, PEAK, FINAL, WARMUP_STEPS, STEPS)
    assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["linear", "cosine", "wsd"])
def test_from_the_last_step_on_the_rate_is_the_final_one(name):
    schedule = Schedule(name, PEAK, FINAL, WARMUP_STEPS, STEPS)
    assert [float(schedule(s)) for s in (STEPS, STEPS + 40)] == pytest.approx([FINAL, FINAL])


@pytest.mark.parametrize("step, share", [(0, 1 / 11), (1, 2 / 11), (9, 10 / 11), (10, 1)])
def test_warmup(name, step, share):
    schedule = Schedule(name, PEAK, FINAL, WARMUP_STEPS, STEPS)
    assert float(schedule(step)) == pytest.approx(PEAK * share, rel=1e-5)


def test_cosine_is_that_of_keras():
    ours = Schedule("cosine", PEAK, FINAL, WARMUP_STEPS, STEPS)
    theirs = keras.optimizers.schedules.CosineDecay(
        PEAK / (WARMUP_STEPS + 1), STEPS - WARMUP_STEPS, FINAL / PEAK, "cosine", PEAK, WARMUP_STEPS
    )
    for step in range(STEPS + 7):
        assert float(ours(step)) == pytest.approx(float(theirs(step)), rel=1e-5)


def test_inverse_sqrt_is_that_of_the_paper():
    """Its equation (3), for a width of 70 and a warm-up of 13; it counts steps from 1."""
    schedule = Schedule("inverse-sqrt", (70 * 13) ** -0.5, 0.0, warmup_steps=12, steps=100)
    for step in range(1, 300):
        expected = 70**-0.5 * min(step**-0.5, step * 13**-1.5)
        assert float(schedule(step - 1)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("warmup_steps, steps", [(0, 1), (0, 7), (6, 7), (50, 110)])
def test_few_steps(name, warmup_steps, steps):
    schedule = Schedule(name, PEAK, FINAL, warmup_steps, steps)
    rates = [float(schedule(step)) for step in range(steps + 1)]
    assert rates[0] == pytest.approx(PEAK / (warmup_steps + 1), rel=1e-5)
    assert rates[warmup_steps] == pytest.approx(PEAK, rel=1e-5)
    assert max(rates) == rates[warmup_steps]


def test_survives_serialization(name):
    schedule = Schedule(name, PEAK, FINAL, WARMUP_STEPS, STEPS)
    restored = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(schedule)
    )
    assert isinstance(restored, Schedule)
    steps = range(0, STEPS, 7)
    assert [float(restored(s)) for s in steps] == [float(schedule(s)) for s in steps]


@pytest.mark.parametrize(
    "optimizer, steps, warmup_steps",
    [
        ("muon", 1400, 10), ("muon", 99, 9), ("muon", 9, 0),
        ("adamw", 2000, 100), ("adamw", 370, 37), ("sgd", 19, 1), ("adam", 1, 0),
    ],
)  # fmt: skip
def test_the_warmup_of_a_short_run_is_at_most_a_tenth(optimizer, steps, warmup_steps):
    assert warmup_of(optimizer=optimizer, steps=steps) == warmup_steps


def test_a_warmup_that_was_asked_for_is_kept():
    assert warmup_of(steps=100, warmup_steps=61) == 61
    assert warmup_of(steps=2000, warmup_steps=0) == 0


def warmup_of(**changes):
    return resolve(ModelConfig(13), TrainingConfig(**changes)).warmup_steps
