"""The step of training: what it adds to the loss of the next token, and what it leaves alone."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from short_runs import assert_resumes, read_checkpoint, train_here
from tolerances import assert_close, assert_same_training

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import InputError
from neo_keras.model.gpt import GPT
from neo_keras.training.resolve import resolve
from neo_keras.training.start import resume_run
from neo_keras.training.train_step import FUTURE_WEIGHT, make_train_step

CONFIG = ModelConfig(vocab_size=7, max_seq_len=5, num_layers=1, num_heads=1, hidden_dim=12)
TEMPERATURE = 1.3
ADDITIONS = 120  # of a block's 12 + 5 + 12 + 12 + 48 inputs, 12 of the output and 15 losses


def make_step(num_future_tokens, **changes):
    config = TrainingConfig(
        num_future_tokens=num_future_tokens, loss_temperature=TEMPERATURE, jit_compile=False
    )
    return make_train_step(CONFIG, resolve(CONFIG, dataclasses.replace(config, **changes)))


@pytest.fixture
def batch():
    token_ids = np.random.default_rng(2).integers(7, size=(3, 6))
    return token_ids[:, :-1], token_ids[:, 1:]


def test_keras_opens_it_as_it_was_saved(batch, tmp_path):
    train_step = make_step(2)
    train_step.fit(*batch, batch_size=3, verbose=0)
    train_step.save(tmp_path / "last.keras")
    loaded = keras.models.load_model(tmp_path / "last.keras")
    assert (loaded.model.config, loaded.config) == (CONFIG, train_step.config)
    saved = train_step.weights + train_step.optimizer.variables
    for value, expected in zip(loaded.weights + loaded.optimizer.variables, saved, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("eval_every, sample_every, steps", [
    (500, 1000, 10), (500, 0, 10), (3, 0, 1), (25, 100, 5), (500, 4, 2)
])  # fmt: skip
def test_no_step_to_validate_or_sample_after_is_passed(eval_every, sample_every, steps):
    train_step = make_step(0, eval_every=eval_every, sample_every=sample_every)
    assert train_step.steps_per_execution == steps


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_future_tokens", [1, 2])
def test_loss_and_gradients_by_hand(batch, num_future_tokens, weighted):
    train_step, (inputs, targets) = make_step(num_future_tokens), batch
    model = train_step.model
    weights = np.random.default_rng(3).random(targets.shape) if weighted else np.ones(targets.shape)
    with tf.GradientTape() as tape:
        loss = train_step.compute_loss(inputs, targets, sample_weight=weights if weighted else None)
    gradient = tape.gradient(loss, train_step.future_heads.kernel.value)

    x = model.hidden(inputs).numpy()
    probabilities = softmax(TEMPERATURE * model(inputs).numpy())
    chosen = np.take_along_axis(probabilities, targets[..., None], axis=-1)[..., 0]
    assert_close(loss, np.mean(weights * -np.log(chosen)), ADDITIONS)

    kernels = np.split(train_step.future_heads.kernel.numpy(), num_future_tokens, axis=1)
    for i, (kernel, ours) in enumerate(
        zip(kernels, np.split(gradient, num_future_tokens, axis=1)), 1
    ):
        seen, wanted = x[:, :-i], targets[:, i:]
        errors = softmax(TEMPERATURE * seen @ kernel) - np.eye(7)[wanted]
        errors *= TEMPERATURE * weights[:, i:, None] * FUTURE_WEIGHT / i / targets.size
        assert_close(ours, np.einsum("bsd,bsv->dv", seen, errors), ADDITIONS)


def softmax(x):
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_validation_is_that_of_the_model(batch):
    train_step = make_step(num_future_tokens=2)
    plain = GPT(CONFIG)
    plain.set_weights(train_step.model.get_weights())
    plain.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    loss = train_step.evaluate(*batch, verbose=0)
    assert_close(loss, plain.evaluate(*batch, verbose=0), additions=3)  # it weighs by rows


def test_nothing_added_trains_as_keras_does(batch):
    """A compiled `GPT` and `fit` make the same steps."""
    train_step = make_step(num_future_tokens=0, loss_temperature=1.0)
    keras.utils.set_random_seed(train_step.config.seed)
    plain = GPT(CONFIG)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile("sgd", loss, jit_compile=False)
    train_step.compile("sgd", jit_compile=False)
    losses = [
        model.fit(*batch, epochs=3, shuffle=False, verbose=0).history["loss"]
        for model in (plain, train_step)
    ]
    assert_same_training(*losses, train_step.get_weights(), plain.get_weights())


def test_adam_squares_the_gradient_of_an_embedding(batch):
    """Of all look-ups of a token together; of a row for each, Keras would square the rows."""
    train_step = make_step(num_future_tokens=0, loss_temperature=1.0)
    train_step.compile("adam", jit_compile=False)
    embeddings = train_step.model.token_embedding.embeddings
    with tf.GradientTape() as tape:
        loss = train_step.compute_loss(*batch)
    rows = tape.gradient(loss, embeddings.value)
    gradient = np.zeros(embeddings.shape)
    np.add.at(gradient, rows.indices.numpy(), rows.values.numpy())
    train_step.fit(*batch, verbose=0)
    (velocity,) = [
        v
        for v in train_step.optimizer.variables
        if v.path.endswith("token_embedding_embeddings_velocity")
    ]
    assert_close(velocity, (1 - train_step.optimizer.beta_2) * gradient**2, ADDITIONS)
    assert np.sum(rows.values.numpy() ** 2) != pytest.approx(np.sum(gradient**2), rel=0.1)


def test_future_tokens_leave_the_model_that_a_seed_gives():
    for ours, theirs in zip(make_step(0).model.get_weights(), make_step(2).model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_temperature_alone(batch):
    train_step, (inputs, targets) = make_step(num_future_tokens=0), batch
    sharper = TEMPERATURE * train_step.model(inputs)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, sharper)
    loss = train_step.compute_loss(inputs, targets)
    assert_close(loss, np.mean(expected), additions=expected.shape.num_elements())


def test_what_is_for_training_is_not_in_the_best_model(corpus_file, tmp_path):
    """But in what training resumes from."""
    run, metrics = train_here(tmp_path / "run", corpus_file, steps=5, num_future_tokens=3)
    assert metrics["num_params"] == run.load_model().count_params()
    heads = {
        path.name: [name for name in read_checkpoint(path) if "future_heads" in name]
        for path in (run.best, run.last)
    }
    assert not heads["best.keras"] and heads["last.keras"]


@pytest.mark.parametrize(
    "architecture",
    ["decoder-only", pytest.param("encoder-decoder", marks=pytest.mark.exhaustive)],
)
def test_resumed_as_if_never_stopped(architecture, corpus_file, pairs_file, tmp_path):
    file = corpus_file if architecture == "decoder-only" else pairs_file
    assert_resumes(
        tmp_path,
        file,
        architecture=architecture,
        num_future_tokens=2,
        loss_temperature=1.3,
        dropout=0.1,
    )


def test_a_checkpoint_of_an_earlier_version_is_refused(corpus_file, tmp_path):
    run, _ = train_here(tmp_path / "run", corpus_file, steps=2)
    model = run.load_model()
    run._save(run.last, model, {"history": run.read_history()})
    with pytest.raises(InputError, match="is of an earlier version of neo_keras: resume with that"):
        resume_run(run.path)
