"""What training adds to the loss of the next token, and takes away again."""

import dataclasses
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from short_runs import assert_resumes, read_checkpoint, train_here
from tolerances import assert_close

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.model.gpt import GPT
from neo_keras.training.objective import AHEAD_WEIGHT, training_model
from neo_keras.training.start import suit_text

CONFIG = ModelConfig(vocab_size=7, max_seq_len=5, num_layers=1, num_heads=1, hidden_dim=12)
TEMPERATURE = 1.3
ADDITIONS = 120  # of a block's 12 + 5 + 12 + 12 + 48 inputs, 12 of the output and 15 losses


def compiled(model_class):
    keras.utils.set_random_seed(1)
    model = model_class(CONFIG)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def make_model(num_future_tokens):
    return compiled(
        training_model(
            GPT, TrainingConfig(num_future_tokens=num_future_tokens, loss_temperature=TEMPERATURE)
        )
    )


@pytest.fixture
def batch():
    token_ids = np.random.default_rng(2).integers(7, size=(3, 6))
    return token_ids[:, :-1], token_ids[:, 1:]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_future_tokens", [1, 2])
def test_loss_and_gradients_by_hand(batch, num_future_tokens, weighted):
    model, (inputs, targets) = make_model(num_future_tokens), batch
    weights = np.random.default_rng(3).random(targets.shape) if weighted else np.ones(targets.shape)
    with tf.GradientTape() as tape:
        predictions = model(inputs, training=True)
        loss = model.compute_loss(inputs, targets, predictions, weights if weighted else None)
    gradient = tape.gradient(loss, model.ahead_unembedding.kernel.value)

    x = model.hidden(inputs).numpy()
    probabilities = softmax(TEMPERATURE * model(inputs).numpy())
    chosen = np.take_along_axis(probabilities, targets[..., None], axis=-1)[..., 0]
    assert_close(loss, np.mean(weights * -np.log(chosen)), ADDITIONS)

    kernels = np.split(model.ahead_unembedding.kernel.numpy(), num_future_tokens, axis=1)
    for i, (kernel, ours) in enumerate(
        zip(kernels, np.split(gradient, num_future_tokens, axis=1)), 1
    ):
        seen, wanted = x[:, :-i], targets[:, i:]
        errors = softmax(TEMPERATURE * seen @ kernel) - np.eye(7)[wanted]
        errors *= TEMPERATURE * weights[:, i:, None] * AHEAD_WEIGHT / i / targets.size
        assert_close(ours, np.einsum("bsd,bsv->dv", seen, errors), ADDITIONS)


def softmax(x):
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def test_validation_is_as_ever(batch):
    model, plain = make_model(num_future_tokens=2), compiled(GPT)
    plain.set_weights(model.get_weights()[:-1])
    assert model.evaluate(*batch, verbose=0) == plain.evaluate(*batch, verbose=0)


def test_nothing_to_add_is_the_class_itself():
    assert training_model(GPT, TrainingConfig(num_future_tokens=0, loss_temperature=1.0)) is GPT
    assert training_model(GPT, TrainingConfig()) is GPT


def test_temperature_alone(batch):
    model, (inputs, targets) = make_model(num_future_tokens=0), batch
    sharper = TEMPERATURE * model(inputs)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, sharper)
    loss = model.compute_loss(inputs, targets, model(inputs, training=True))
    assert_close(loss, np.mean(expected), additions=expected.shape.num_elements())


def test_what_is_for_training_is_not_in_the_best_model(corpus_file, tmp_path):
    """But in what training resumes from."""
    run, metrics = train_here(tmp_path / "run", corpus_file, steps=5, num_future_tokens=3)
    assert metrics["num_params"] == run.load_model().count_params()
    heads = {
        path.name: [name for name in read_checkpoint(path) if "ahead_unembedding" in name]
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


@pytest.mark.parametrize(
    "vocab_size, max_seq_len, steps, num_future_tokens, temperature",
    [
        (256, 5, 10, 3, 1.0),  # half a pass
        (257, 5, 20, 0, 1.0),  # one
        (256, 3, 40, 2, 1 + 0.08 * np.log(2)),
    ],
)
def test_what_suits_a_text(vocab_size, max_seq_len, steps, num_future_tokens, temperature):
    model_config = dataclasses.replace(CONFIG, vocab_size=vocab_size, max_seq_len=max_seq_len)
    corpus = types.SimpleNamespace(num_training_rows=460)
    config = TrainingConfig(batch_size=23, steps=steps)
    suited = suit_text(model_config, config, corpus)
    assert (suited.num_future_tokens, suited.loss_temperature) == (
        num_future_tokens,
        pytest.approx(temperature),
    )
    asked = dataclasses.replace(config, num_future_tokens=1, loss_temperature=0.9)
    assert suit_text(model_config, asked, corpus) == asked
