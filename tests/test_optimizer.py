"""What each optimizer does to which weights, and that all of them learn."""

import dataclasses

import keras
import numpy as np
import pytest
from tolerances import assert_close

from neo_keras.choices import OPTIMIZERS
from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.model.gpt import GPT
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.training.dataset import training_dataset
from neo_keras.training.optimizer import make_optimizer
from neo_keras.training.resolve import resolve
from neo_keras.training.train_step import make_train_step


def resolved(**changes):
    return resolve(ModelConfig(13), TrainingConfig(**changes))


@pytest.fixture
def optimizer_of(tiny_config):
    model = GPT(tiny_config)

    def make(**changes):
        return make_optimizer(resolved(**changes), model)

    return make


def test_the_schedule_follows_the_steps(optimizer_of):
    optimizer = optimizer_of(
        schedule="linear", learning_rate=1e-2, final_learning_rate=1e-3, warmup_steps=10, steps=110
    )
    for step, expected in [(0, 1e-2 / 11), (10, 1e-2), (60, 5.5e-3), (110, 1e-3)]:
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_a_low_learning_rate_never_rises_after_the_warmup(optimizer_of, schedule):
    optimizer = optimizer_of(
        schedule=schedule, learning_rate=1e-4, final_learning_rate=1e-3, warmup_steps=0, steps=110
    )
    for step in (0, 55, 110):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(1e-4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_survive_serialization(optimizer_of, name):
    optimizer = optimizer_of(optimizer=name, schedule="wsd", ema=0.9, clip_norm=0.7)
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(restored) is type(optimizer)
    assert restored.get_config() == optimizer.get_config()
    assert float(restored.learning_rate) == float(optimizer.learning_rate)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns(name, tiny_corpus_text):
    """With its own learning rate, from a fresh model; gradients of rows (n-grams) included."""
    tokenizer = Tokenizer.characters_of(tiny_corpus_text)
    token_ids = tokenizer.encode(tiny_corpus_text)
    shape = {"max_seq_len": 17, "num_layers": 2, "num_heads": 5, "hidden_dim": 70}
    model_config = ModelConfig(
        tokenizer.vocab_size, max_ngram=3, ngram_rows=53, ngram_dim=11, **shape
    )
    config = resolved(optimizer=name, steps=40, batch_size=19, jit_compile=False)
    model = make_train_step(model_config, config)
    losses = model.fit(
        training_dataset(token_ids, 17, config.batch_size, seed=3, steps=40),
        steps_per_epoch=10, epochs=4, verbose=0, shuffle=False,
    ).history["loss"]  # fmt: skip
    blind = np.log(tokenizer.vocab_size)
    assert losses[0] < blind + 0.5
    assert losses[-1] < blind - 0.5
    assert losses[-1] < losses[1] < losses[0]


def test_sgd_has_nesterov_momentum(tiny_config):
    """Two steps with the gradient g and the rate r: -1.9 r g, then -2.71 r g."""
    model = GPT(tiny_config)
    variables = model.trainable_variables
    config = resolved(optimizer="sgd", learning_rate=0.01, schedule="constant", warmup_steps=0)
    optimizer = make_optimizer(config, model)
    gradients = [np.random.default_rng(5).normal(size=v.shape) for v in variables]
    for expected in (-0.019, -0.0271):
        before = [np.array(v) for v in variables]
        optimizer.apply([g.astype("float32") for g in gradients], variables)
        for variable, old, gradient in zip(variables, before, gradients):
            # What is added to has a weight of 1 at most.
            assert_close(np.array(variable) - old, expected * gradient, additions=4, magnitude=1)


def decayed(model, **changes):
    """Names of the variables that a step without gradients changes, in what proportion."""
    optimizer = make_optimizer(resolved(**{"steps": 1, "optimizer": "adamw", **changes}), model)
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
    for i in range(2)
    for name in ("attention/qkv/kernel", "attention/output/kernel", "feed_forward/expand/kernel",
                 "feed_forward/contract_kernel")
}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_of_the_modern_shape(tiny_config, make_model, optimizer):
    model = make_model(dataclasses.replace(tiny_config, max_ngram=3, ngram_rows=53))
    names = decayed(model, optimizer=optimizer, learning_rate=0.5, weight_decay=0.4)
    projection = "ngram_embedding/projection/kernel"
    assert names == BLOCK_MATRICES | {"token_embedding/reverse_embeddings", projection}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_weight_decay_of_the_classic_shape(classic_config, make_model, optimizer):
    # Its output head is the token embedding, which is spared with the positions and the biases.
    model = make_model(classic_config)
    names = decayed(model, optimizer=optimizer, learning_rate=0.5, weight_decay=0.4)
    assert names == BLOCK_MATRICES


def test_weight_decay_under_muon(tiny_config, make_model):
    model = make_model(dataclasses.replace(tiny_config, max_ngram=3, ngram_rows=53))
    settings = {"optimizer": "muon", "learning_rate": 0.5}
    table = {"ngram_embedding/table/embeddings"}
    assert decayed(model, weight_decay=0.0, ngram_weight_decay=0.4, **settings) == table
    assert decayed(model, weight_decay=0.4, ngram_weight_decay=0.0, **settings) == BLOCK_MATRICES


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_weight_decay(tiny_model, optimizer):
    settings = {"optimizer": optimizer, "learning_rate": 0.5}
    assert decayed(tiny_model, weight_decay=0.0, ngram_weight_decay=0.0, **settings) == set()


def test_adam_is_adamw_without_weight_decay(tiny_config, make_model):
    results = []
    for name in ("adam", "adamw"):
        model, rng = make_model(tiny_config), np.random.default_rng(5)
        config = resolved(optimizer=name, learning_rate=1e-2, weight_decay=0.0)
        optimizer = make_optimizer(config, model)
        for _ in range(3):
            variables = model.trainable_variables
            gradients = [rng.normal(size=v.shape).astype("float32") for v in variables]
            optimizer.apply(gradients, variables)
        results.append(model.get_weights())
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size, clipped_norm", [(1000.0, 0.7), (1e-5, None)])
def test_gradients_are_clipped_together(tiny_config, size, clipped_norm):
    model = GPT(tiny_config)
    variables = model.trainable_variables
    config = resolved(optimizer="adamw", clip_norm=0.7, weight_decay=0.0)
    optimizer = make_optimizer(config, model)
    optimizer.apply([np.full(v.shape, size, "float32") for v in variables], variables)
    momenta = [np.array(v) for v in optimizer.variables if "momentum" in v.path]
    assert len(momenta) == len(variables)
    # The first step leaves (1 - beta_1) of the gradients there; all are clipped alike.
    norm = np.sqrt(sum((m.astype("float64") ** 2).sum() for m in momenta)) / 0.1
    assert norm == pytest.approx(clipped_norm or size * model.count_params() ** 0.5, rel=1e-3)
    means = [m.mean() for m in momenta]
    assert np.ptp(means) < 1e-4 * max(means)


def test_beta_2(optimizer_of):
    assert optimizer_of(optimizer="adam", beta_2=0.97).beta_2 == 0.97
    assert optimizer_of(optimizer="adamw", beta_2=0.97).beta_2 == 0.97
    assert optimizer_of(optimizer="muon", beta_2=0.97).adam_beta_2 == 0.97


def test_muon_is_for_the_matrices_of_the_blocks(tiny_config):
    """Its first step is a nearly orthogonal matrix; Adam's is the rate, plus or minus, anywhere."""
    config = dataclasses.replace(tiny_config, max_ngram=3, ngram_rows=53, embedding_norm=True)
    model = GPT(config)
    variables = model.trainable_variables
    before = [np.array(v) for v in variables]
    rng = np.random.default_rng(5)
    optimizer = make_optimizer(resolved(learning_rate=1e-3, warmup_steps=0), model)
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
