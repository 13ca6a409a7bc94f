"""The learning rate at steps worked out by hand, what decays, and that gradients are clipped."""

import dataclasses

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


@pytest.fixture(params=["cosine", "linear"])
def schedule(request):
    return request.param


@pytest.fixture
def learning_rate_of(optimizer_of, schedule):
    def make(learning_rate=PEAK, final_learning_rate=FINAL, **changes):
        changes |= {"learning_rate": learning_rate, "final_learning_rate": final_learning_rate}
        optimizer = optimizer_of(optimizer="adamw", schedule=schedule, **changes)

        def learning_rate(step):
            optimizer.iterations.assign(step)
            return float(optimizer.learning_rate)

        return learning_rate

    return make


@pytest.mark.parametrize(
    "step, cosine, linear",
    [
        (0, PEAK * 1 / 11, PEAK * 1 / 11),
        (1, PEAK * 2 / 11, PEAK * 2 / 11),
        (9, PEAK * 10 / 11, PEAK * 10 / 11),
        (10, PEAK, PEAK),
        # A quarter: FINAL + (PEAK - FINAL) * (1 + cos 45 deg) / 2, or three quarters of the way.
        (35, 8.681980515e-3, 7.75e-3),
        (60, 5.5e-3, 5.5e-3),  # half
        (85, 2.318019485e-3, 3.25e-3),
        (110, FINAL, FINAL),
        (111, FINAL, FINAL),
    ],
)
def test_warmup_then_decay(learning_rate_of, schedule, step, cosine, linear):
    learning_rate = learning_rate_of(steps=110, warmup_steps=10)
    expected = {"cosine": cosine, "linear": linear}[schedule]
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
    optimizer = make_optimizer(
        TrainingConfig(**{"steps": 1, "optimizer": "adamw", **changes}), model
    )
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
    f"block_{i}/{name}"
    for i in range(3)
    for name in ("attention/qkv/kernel", "attention/output/kernel", "feed_forward/expand/kernel",
                 "feed_forward/contract_kernel")
}  # fmt: skip


def test_weight_decay_of_the_modern_shape(tiny_model):
    names = decayed(tiny_model, learning_rate=0.5, weight_decay=0.4)
    assert names == BLOCK_MATRICES | {"token_embedding/reverse_embeddings"}


def test_weight_decay_of_the_classic_shape(classic_config, make_model):
    # Its output head is the token embedding, which is spared with the positions and the biases.
    names = decayed(make_model(classic_config), learning_rate=0.5, weight_decay=0.4)
    assert names == BLOCK_MATRICES


def test_weight_decay_under_muon(tiny_config, make_model):
    model = make_model(dataclasses.replace(tiny_config, max_ngram=3, ngram_rows=53))
    settings = {"optimizer": "muon", "learning_rate": 0.5}
    table = {"ngram_embedding/table/embeddings"}
    assert decayed(model, weight_decay=0.0, ngram_decay=0.4, **settings) == table
    assert decayed(model, weight_decay=0.4, ngram_decay=0.0, **settings) == BLOCK_MATRICES


def test_no_weight_decay(tiny_model):
    assert decayed(tiny_model, learning_rate=0.5, weight_decay=0.0) == set()


@pytest.mark.parametrize("size, clipped_norm", [(1000.0, 0.7), (1e-5, None)])
def test_gradients_are_clipped_together(tiny_config, size, clipped_norm):
    model = GPT(tiny_config)
    variables = model.trainable_variables
    config = TrainingConfig(optimizer="adamw", clip_norm=0.7, weight_decay=0.0)
    optimizer = make_optimizer(config, model)
    optimizer.apply([np.full(v.shape, size, "float32") for v in variables], variables)
    momenta = [np.array(v) for v in optimizer.variables if "momentum" in v.path]
    assert len(momenta) == len(variables)
    # The first step leaves (1 - beta_1) of the gradients there; all are clipped alike.
    norm = np.sqrt(sum((m.astype("float64") ** 2).sum() for m in momenta)) / 0.1
    assert norm == pytest.approx(clipped_norm or size * model.count_params() ** 0.5, rel=1e-3)
    assert np.ptp([m.mean() for m in momenta]) == pytest.approx(0, abs=1e-6 * size)


def test_beta_2(optimizer_of):
    assert optimizer_of(optimizer="adamw", beta_2=0.97).beta_2 == 0.97
    assert optimizer_of(optimizer="muon", beta_2=0.97).adam_beta_2 == 0.97


def test_muon_is_for_the_matrices_of_the_blocks(tiny_config):
    """Its first step is a nearly orthogonal matrix; Adam's is the rate, plus or minus, anywhere."""
    config = dataclasses.replace(tiny_config, max_ngram=3, ngram_rows=53, embedding_norm=True)
    model = GPT(config)
    variables = model.trainable_variables
    before = [np.array(v) for v in variables]
    rng = np.random.default_rng(5)
    optimizer = make_optimizer(TrainingConfig(learning_rate=1e-3, warmup_steps=0), model)
    optimizer.apply([rng.normal(size=v.shape).astype("float32") for v in variables], variables)
    seen = set()
    for variable, old in zip(variables, before):
        name = variable.path.split("/", 1)[1]
        change = np.array(variable, "float64") - old
        if name in BLOCK_MATRICES:
            seen.add(name)
            singular = np.linalg.svd(change, compute_uv=False)
            singular /= 1e-3 * 0.2 * max(change.shape) ** 0.5
            # Three Newton-Schulz steps lift all but the smallest of a random matrix to about 1.
            assert 0.5 < np.median(singular) and singular.max() < 1.3, name
        else:
            assert np.median(np.abs(change)) == pytest.approx(2e-3, rel=1e-3), name
    assert seen == BLOCK_MATRICES
