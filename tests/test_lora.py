"""Low-rank adapters: what they compute, and what of a model with them is trained."""

import dataclasses

import keras
import numpy as np
import pytest
import tiny_llama
from conftest import randomize
from tolerances import assert_close

from neo_keras.choices import LORA_TARGETS
from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.lora_config import LoraConfig
from neo_keras.model.gpt import GPT
from neo_keras.model.lora import LoraAdapter, adapters, add_lora, merge_lora, saved_variables
from neo_keras.training.estimate import memory_parts
from neo_keras.training.resolve import resolve
from neo_keras.training.train_step import TrainStep, make_train_step

CONFIG = ModelConfig(13, **tiny_llama.SHAPE)
ADDITIONS = 2 * (22 + 24 + 22 + 31)  # of two blocks
pytest_plugins = ["lora_fixtures"]

LORA = LoraConfig(3)
IDS = np.random.default_rng(3).integers(13, size=(5, 19)).astype("int32")


def adapted_model(lora=LORA, **changes):
    """A model with random weights and random adapters, and the logits that it had without them."""
    model = GPT(dataclasses.replace(CONFIG, **changes))
    randomize(model, seed=7)
    before = np.asarray(model(IDS))
    add_lora(model, lora)
    return model, before


def randomize_adapters(model, seed=11):
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.2, variable.shape))


def test_adapters_begin_as_nothing():
    model, before = adapted_model()
    np.testing.assert_array_equal(np.asarray(model(IDS)), before)
    for _, name, adapter in adapters(model):
        inputs, _ = LORA.matrices(CONFIG)[name]
        limit = inputs**-0.5  # as PEFT begins
        a = np.asarray(adapter.a)
        assert 0.8 * limit < np.abs(a).max() <= limit and abs(a.mean()) < 0.2 * limit
        assert not np.any(adapter.b)


def test_what_an_adapter_computes():
    """Of two matrices side by side, by hand: y += alpha / rank * (x A) B for each."""
    model, _ = adapted_model(LoraConfig(3, alpha=5.0))
    randomize_adapters(model)
    feed_forward = model.blocks[1].feed_forward
    x = np.random.default_rng(1).normal(size=(2, 7, 22)).astype("float32")
    kernel = np.asarray(feed_forward.expand.kernel)
    a = np.asarray(feed_forward.expand_lora.a)
    gate_b, up_b = np.split(np.asarray(feed_forward.expand_lora.b), 2, axis=1)
    gate = x @ kernel[:, :31] + 5 / 3 * (x @ a[:, :3]) @ gate_b
    up = x @ kernel[:, 31:] + 5 / 3 * (x @ a[:, 3:]) @ up_b
    x = gate / (1 + np.exp(-gate)) * up
    a, b = map(np.asarray, (feed_forward.contract_lora.a, feed_forward.contract_lora.b))
    expected = x @ np.asarray(feed_forward.contract_kernel).T + 5 / 3 * (x @ a) @ b
    got = feed_forward(np.random.default_rng(1).normal(size=(2, 7, 22)).astype("float32"))
    assert_close(np.asarray(got), expected, 22 + 31)


@pytest.mark.parametrize("targets", LORA_TARGETS)
@pytest.mark.parametrize("fused_qkv", [False, True])
def test_merged_is_unmerged(targets, fused_qkv):
    lora = LoraConfig(2, 7.0, targets, fused_qkv)
    model, before = adapted_model(lora, use_bias=True)
    randomize_adapters(model)
    logits = np.asarray(model(IDS))
    assert np.abs(logits - before).max() > 0.1
    merged = merge_lora(model)
    assert not list(adapters(merged)) and merged.count_params() < model.count_params()
    assert_close(np.asarray(merged(IDS)), logits, ADDITIONS)
    names = {name for _, name, _ in adapters(model)}
    assert names == set(LORA_TARGETS[targets])
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trained == lora.num_weights(model.config)


def test_with_a_cache():
    """`step`, which generation and exports call, has the adapters, too."""
    model, _ = adapted_model()
    randomize_adapters(model)
    cache, positions = model.empty_cache(5), np.arange(19, dtype="int32")
    first, cache = model.step(IDS[:, :11], positions[:11], cache)
    second, cache = model.step(IDS[:, 11:], positions[11:], cache)
    got = np.concatenate([np.asarray(first), np.asarray(second)], axis=1)
    assert_close(got, np.asarray(model(IDS)), ADDITIONS)


def lora_step(**changes):
    """A compiled `TrainStep` of an adapted model."""
    settings = dict(
        batch_size=5, optimizer="adamw", lora_rank=3, jit_compile=False, num_future_tokens=0,
        loss_temperature=1.0, cpu_replicas=1, weight_decay=0.0, learning_rate=1e-2, steps=100,
        steps_per_execution=1, mixed_precision="float32",
    )  # fmt: skip
    config = TrainingConfig(**{**settings, **changes})
    train_step = make_train_step(CONFIG, resolve(CONFIG, config))
    for variable in train_step.model.variables:
        if variable.trainable or "seed_generator" in variable.path:
            continue
        variable.assign(np.random.default_rng(2).normal(0, 0.2, variable.shape))
    return train_step


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"remat": True},
        pytest.param({"jit_compile": True}, marks=pytest.mark.exhaustive),
        {"cpu_replicas": 5, "gradient_accumulation_steps": 1},
        {"mixed_precision": "bfloat16"},
        {"ema": 0.9},
    ],
)
def test_only_adapters_are_trained(changes):
    train_step = lora_step(**changes)
    before = {v.path: np.array(v) for v in train_step.model.variables}
    train_step.fit(IDS[:, :-1], IDS[:, 1:], batch_size=5, epochs=3, verbose=0)
    moved = {v.path for v in train_step.model.variables if np.any(np.array(v) != before[v.path])}
    assert moved == {v.path for v in train_step.trainable_variables}
    assert all("_lora/" in path for path in moved) and moved
    moments = [v for v in train_step.optimizer.variables if v.ndim == 2]
    assert sum(int(np.prod(v.shape)) for v in moments) == (2 + bool(changes.get("ema"))) * (
        LORA.num_weights(CONFIG)
    )


@pytest.mark.parametrize("fused_qkv", [False, True])
def test_the_memory(fused_qkv):
    """Only adapters have gradients and moments, and are saved."""
    settings = dict(lora_fused_qkv=fused_qkv, ema=0.9, clip_norm=1.0)
    train_step = lora_step(**settings)
    trained = 4 * sum(int(np.prod(v.shape)) for v in train_step.trainable_variables)
    moments = 4 * sum(int(np.prod(v.shape)) for v in train_step.optimizer.variables if v.ndim)
    parts = memory_parts(CONFIG, train_step.config)
    assert parts["optimizer"] == moments == 3 * trained
    assert parts["gradients"] == 2 * trained
    assert parts["checkpoint"] == trained + moments
    whole = memory_parts(CONFIG, dataclasses.replace(train_step.config, lora_rank=None))
    assert parts["weights"] == whole["weights"] + trained
    half = memory_parts(CONFIG, dataclasses.replace(train_step.config, mixed_precision="bfloat16"))
    assert half["weights"] == whole["weights"] / 2 + trained
    assert {v.path for v in saved_variables(train_step)} == {
        v.path for v in train_step.trainable_variables
    }
    assert len(saved_variables(merge_lora(train_step.model))) > 10


def test_remat_gives_the_same_gradients():
    gradients = []
    for remat in (False, True):
        train_step = lora_step(remat=remat)
        randomize_adapters(train_step.model)
        data = (IDS[:, :-1], IDS[:, 1:])
        gradients.append(train_step._batch_loss_and_gradients(data)[1])
    for one, other in zip(*gradients):
        assert_close(np.asarray(one), np.asarray(other), ADDITIONS)


def test_gradients_by_hand():
    """Of sum(w * y): of A, scale * x' (w B'); of B, scale * (x A)' w; for each part of w."""
    import tensorflow as tf

    adapter = LoraAdapter(3, (5, 2), 1.7)
    adapter.build((None, 11))
    randomize(adapter, seed=1)
    x, w = (
        np.random.default_rng(i).normal(size=(13, n)).astype("float32")
        for i, n in [(2, 11), (3, 7)]
    )
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(w * adapter(x))
    gradients = tape.gradient(loss, adapter.trainable_variables)
    (a, first_b), (other_a, second_b) = adapter.factors()
    of_a = [1.7 * x.T @ (w[:, :5] @ first_b.T), 1.7 * x.T @ (w[:, 5:] @ second_b.T)]
    of_b = [1.7 * (x @ a).T @ w[:, :5], 1.7 * (x @ other_a).T @ w[:, 5:]]
    expected = [np.concatenate(both, axis=1) for both in (of_a, of_b)]
    for got, array in zip(gradients, expected, strict=True):
        assert_close(np.asarray(got), array, 13 + 11)


def test_what_is_frozen_has_the_digits_that_are_computed_with():
    """Loss and gradients are those of frozen weights in float32, which are rounded each time."""
    data, results = (IDS[:, :-1], IDS[:, 1:]), []
    for policy in ("bfloat16", "mixed_bfloat16"):
        model = GPT(CONFIG, dtype=policy)
        randomize(model, seed=7)
        add_lora(model, LORA)
        randomize_adapters(model)
        kinds = {True: "float32", False: model.variable_dtype}
        assert all(v.dtype == kinds[v.trainable] for v in model.variables if "seed" not in v.path)
        train_step = TrainStep(model, lora_step(mixed_precision="bfloat16").config)
        train_step.compile(keras.optimizers.Adam())
        results.append(train_step._batch_loss_and_gradients(data))
    (loss, gradients), (other_loss, other_gradients) = results
    assert loss == other_loss
    for gradient, other in zip(gradients, other_gradients, strict=True):
        np.testing.assert_array_equal(gradient, other)


def test_a_gradient_within_a_model():
    """Of one adapter, by differences of the loss that the merged model has."""
    train_step = lora_step()
    model = train_step.model
    randomize_adapters(model)
    data = (IDS[:, :-1], IDS[:, 1:])
    _, gradients = train_step._batch_loss_and_gradients(data)
    paths = [v.path.partition("/")[2] for v in train_step.trainable_variables]
    index = paths.index("block_1/feed_forward/contract_lora/b")
    variable, gradient = train_step.trainable_variables[index], np.asarray(gradients[index])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    direction = gradient / np.linalg.norm(gradient)
    value, losses = np.array(variable), []
    for epsilon in (0.02, -0.02):
        variable.assign(value + epsilon * direction)
        losses.append(float(loss(data[1], merge_lora(model)(data[0]))))
    difference = (losses[0] - losses[1]) / 0.04
    assert difference == pytest.approx(np.linalg.norm(gradient), rel=2e-3)


def test_no_gradient_of_what_is_frozen_is_computed():
    """In the graph there is no array of the shape of a frozen matrix but that matrix itself."""
    import tensorflow as tf

    train_step = lora_step()
    data = tuple(map(tf.constant, (IDS[:, :-1], IDS[:, 1:])))
    function = tf.function(train_step._batch_loss_and_gradients).get_concrete_function(data)
    graphs, made = [function.graph], []
    while graphs:
        graph = graphs.pop()
        graphs += [f.graph for f in graph._functions.values() if hasattr(f, "graph")]
        made += [op for op in graph.get_operations() if "MatMul" in op.type]
    assert len(made) > 20
    shapes = [tuple(output.shape) for op in made for output in op.outputs]
    # q, k and v together, gate and up together, the head
    for shape in [(22, 48), (48, 22), (22, 62), (62, 22), (31, 22), (22, 13), (13, 22)]:
        assert shape not in shapes, shape
    assert (22, 9) in shapes  # that of A of queries, keys and values
