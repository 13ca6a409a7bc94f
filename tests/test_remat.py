"""Blocks that are computed twice train as blocks that are computed once."""

import pytest
import tensorflow as tf
from short_runs import assert_resumes, losses_and_weights
from tolerances import assert_same_training

from neo_keras.model.gpt import GPT


@pytest.mark.parametrize(
    "settings",
    [
        {"dropout": 0.2, "num_kv_heads": 1, "max_ngram": 2, "ngram_rows": 53},
        pytest.param({"dropout": 0.2, "jit_compile": True}, marks=pytest.mark.exhaustive),
        pytest.param(
            {"dropout": 0.2, "architecture": "encoder-decoder", "norm_position": "post"},
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            {"gradient_accumulation_steps": 3, "mixed_precision": "bfloat16", "use_bias": True},
            marks=pytest.mark.exhaustive,
        ),
    ],
    ids=["GPT", "XLA", "encoder-decoder", "accumulated bfloat16"],
)
def test_the_same_losses_and_weights(corpus_file, tmp_path, settings):
    settings = {"optimizer": "sgd", "clip_norm": 1.0, "ema": 0.9, **settings}
    losses, weights = losses_and_weights(tmp_path / "a", corpus_file, **settings)
    again = losses_and_weights(tmp_path / "b", corpus_file, remat=True, **settings)
    assert losses[-1] < losses[0] - 0.05
    assert_same_training(again[0], losses, again[1], weights)


@pytest.mark.exhaustive
def test_resumed_as_if_never_stopped(corpus_file, tmp_path):
    assert_resumes(tmp_path, corpus_file, remat=True, dropout=0.1)


def test_the_blocks_are_computed_twice(tiny_config):
    """As many more attention weights are computed as there are blocks."""

    def count_softmaxes(remat):
        model = GPT(tiny_config)
        model.remat = remat

        @tf.function
        def gradients(token_ids):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(model(token_ids, training=True))
            return tape.gradient(loss, model.trainable_variables)

        graph = gradients.get_concrete_function(tf.zeros((2, 7), tf.int32)).graph
        return sum(operation.type == "Softmax" for operation in graph.get_operations())

    assert count_softmaxes(False) == tiny_config.num_layers
    assert count_softmaxes(True) == 2 * tiny_config.num_layers
