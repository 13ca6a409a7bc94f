"""The learning rate at steps worked out by hand, what decays, and that gradients are clipped."""

import numpy as np
import pytest

from neo_keras.config import TrainingConfig
from neo_keras.model.gpt import GPT
from neo_keras.training.optimizer import make_optimizer

PEAK, FINAL = 1e-2, 1e-3


@pytest.fixture
def optimizer_of(tiny_config):
    model = GPT(tiny_config)

    def make(**changes):
        return make_optimizer(TrainingConfig(**changes), model)

    return make


@pytest.fixture
def learning_rate_of(optimizer_of):
    def make(learning_rate=PEAK, final_learning_rate=FINAL, **changes):
        optimizer = optimizer_of(
            learning_rate=learning_rate, final_learning_rate=final_learning_rate, **changes
        )

        def learning_rate(step):
            optimizer.iterations.assign(step)
            return float(optimizer.learning_rate)

        return learning_rate

    return make


@pytest.mark.parametrize(
    "step, expected",
    [
        (0, PEAK * 1 / 11),
        (1, PEAK * 2 / 11),
        (9, PEAK * 10 / 11),
        (10, PEAK),
        (35, 8.681980515e-3),  # a quarter: FINAL + (PEAK - FINAL) * (1 + cos 45 deg) / 2
        (60, 5.5e-3),  # half
        (85, 2.318019485e-3),
        (110, FINAL),
        (111, FINAL),
    ],
)
def test_warmup_then_cosine(learning_rate_of, step, expected):
    learning_rate = learning_rate_of(steps=110, warmup_steps=10)
    assert learning_rate(step) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("steps, warmup_steps", [(2000, 100), (370, 37), (19, 1), (9, 0), (1, 0)])
def test_warmup_is_at_most_a_tenth_of_the_run(learning_rate_of, steps, warmup_steps):
    learning_rate = learning_rate_of(steps=steps, warmup_steps=100)
    assert learning_rate(warmup_steps) == pytest.approx(PEAK, rel=1e-5)
    assert learning_rate(0) == pytest.approx(PEAK / (warmup_steps + 1), rel=1e-5)
    assert learning_rate(warmup_steps + 1) < PEAK
    assert learning_rate(steps) == pytest.approx(FINAL, rel=1e-5)


def test_no_decay_where_the_final_rate_is_the_peak(learning_rate_of):
    learning_rate = learning_rate_of(final_learning_rate=PEAK, steps=110, warmup_steps=0)
    assert [learning_rate(step) for step in (0, 55, 110)] == pytest.approx(3 * [PEAK])


def test_a_low_learning_rate_never_rises_after_the_warmup(learning_rate_of):
    learning_rate = learning_rate_of(learning_rate=FINAL / 10, steps=110, warmup_steps=0)
    assert learning_rate(110) <= learning_rate(0) * (1 + 1e-6)


def decayed(model, **changes):
    """Names of the variables that a step without gradients changes, in what proportion."""
    optimizer = make_optimizer(TrainingConfig(steps=1, **changes), model)
    before = {v.path.split("/", 1)[1]: np.array(v) for v in model.trainable_variables}
    optimizer.apply(
        [np.zeros(v.shape, "float32") for v in model.trainable_variables],
        model.trainable_variables,
    )
    names = set()
    for variable, (name, old) in zip(model.trainable_variables, before.items()):
        new = np.array(variable)
        if not np.array_equal(new, old):
            np.testing.assert_allclose(new, 0.8 * old, rtol=1e-5)
            names.add(name)
    assert names < set(before)
    return names


BLOCK_MATRICES = {
    f"block_{i}/{name}/kernel"
    for i in range(3)
    for name in ("attention/qkv", "attention/output", "feed_forward/expand",
                 "feed_forward/contract")
}  # fmt: skip


def test_weight_decay_of_the_modern_shape(tiny_model):
    names = decayed(tiny_model, learning_rate=0.5, weight_decay=0.4)
    assert names == BLOCK_MATRICES | {"token_embedding/reverse_embeddings"}


def test_weight_decay_of_the_classic_shape(classic_config, make_model):
    # Its output head is the token embedding, which is spared with the positions and the biases.
    names = decayed(make_model(classic_config), learning_rate=0.5, weight_decay=0.4)
    assert names == BLOCK_MATRICES


def test_no_weight_decay(tiny_model):
    assert decayed(tiny_model, learning_rate=0.5, weight_decay=0.0) == set()


@pytest.mark.parametrize("size, clipped_norm", [(1000.0, 0.7), (1e-5, None)])
def test_gradients_are_clipped_together(tiny_config, size, clipped_norm):
    model = GPT(tiny_config)
    variables = model.trainable_variables
    optimizer = make_optimizer(TrainingConfig(clip_norm=0.7, weight_decay=0.0), model)
    optimizer.apply([np.full(v.shape, size, "float32") for v in variables], variables)
    momenta = [np.array(v) for v in optimizer.variables if "momentum" in v.path]
    assert len(momenta) == len(variables)
    # The first step leaves (1 - beta_1) of the gradients there; all are clipped alike.
    norm = np.sqrt(sum((m.astype("float64") ** 2).sum() for m in momenta)) / 0.1
    assert norm == pytest.approx(clipped_norm or size * model.count_params() ** 0.5, rel=1e-3)
    assert np.ptp([m.mean() for m in momenta]) == pytest.approx(0, abs=1e-6 * size)


def test_beta_2(optimizer_of):
    assert optimizer_of(beta_2=0.97).beta_2 == 0.97
