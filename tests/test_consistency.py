"""Rows that are taken twice are to be predicted alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from short_runs import assert_resumes, losses_and_weights

from neo_keras.config import TrainingConfig
from neo_keras.training.consistency import consistent_model

LOGITS = [[[0.0, 1.0, 3.0]], [[2.0, 2.0, 0.0]]]  # of two rows of one token
LATER = [[[1.0, 0.0, 0.0]], [[2.0, 2.0, 0.0]]]  # the same again, otherwise dropped


class TwoAnswers(keras.Model):
    """Gives what it is asked to in training, and the first answer otherwise."""

    def call(self, inputs, training=False):
        return tf.constant([*LOGITS, *LATER] if training else LOGITS)


def compiled(consistency):
    model = consistent_model(TwoAnswers, TrainingConfig(consistency=consistency))()
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def by_hand(row, target, consistency):
    p, q = (np.exp(x[row][0]) / np.exp(x[row][0]).sum() for x in (LOGITS, LATER))
    crossentropy = -(np.log(p[target]) + np.log(q[target])) / 2
    divergences = np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p))
    return crossentropy + consistency * divergences / 4


@pytest.mark.parametrize("weights", [None, (0.5, 3.0)])
def test_the_loss(weights):
    model, inputs, targets = compiled(0.7), tf.constant([[0], [1]]), tf.constant([[2], [0]])
    rows = weights and tf.constant([[weight] for weight in weights])
    loss = model.compute_loss(inputs, targets, model(inputs, training=True), rows)
    first, second = (by_hand(row, target, 0.7) for row, target in [(0, 2), (1, 0)])
    first_weight, second_weight = weights or (1, 1)
    expected = (first_weight * first + second_weight * second) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_validation_is_as_ever():
    inputs, targets = tf.constant([[0], [1]]), tf.constant([[2], [0]])
    ours, plain = (compiled(c).evaluate(inputs, targets, verbose=0) for c in (0.7, 0.0))
    assert ours == plain


@pytest.mark.parametrize(
    "settings",
    [
        {"max_ngram": 2, "ngram_rows": 53, "remat": True},
        {"accumulate": 3, "jit_compile": True},
        {"architecture": "encoder-decoder", "max_seq_len": 11},
    ],
    ids=["GPT", "accumulated XLA", "pairs"],
)
def test_without_dropout_nothing_changes(corpus_file, pairs_file, tmp_path, settings):
    """Two equal predictions have no divergence, and the mean of two equal losses is one."""
    file = pairs_file if "architecture" in settings else corpus_file
    settings = dict(optimizer="sgd", **settings)
    losses, weights = losses_and_weights(tmp_path / "a", file, **settings)
    again = losses_and_weights(tmp_path / "b", file, consistency=1.0, **settings)
    assert losses[-1] < losses[0] - 0.05
    np.testing.assert_allclose(again[0], losses, atol=2e-6, rtol=0)
    for ours, theirs in zip(again[1], weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6, rtol=0)


def test_both_times_drop_otherwise(corpus_file, tmp_path):
    """So the loss is higher than with a weight near to none."""
    first = [
        losses_and_weights(tmp_path / str(c), corpus_file, dropout=0.3, consistency=c)[0][0]
        for c in (1e-6, 10.0)
    ]
    assert first[1] > first[0] + 0.01


def test_resumed_as_if_never_stopped(corpus_file, tmp_path):
    assert_resumes(tmp_path, corpus_file, consistency=1.0, dropout=0.1)
