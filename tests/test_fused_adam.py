"""Adam by TensorFlow's kernel is the Adam of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tolerances import assert_close

from neo_keras.training import fused_adam
from neo_keras.training.fused_adam import fuse_adam

SHAPES = {"kernel": (5, 7), "embedding": (11, 3), "bias": (13,)}
OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.1, beta_2=0.95),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.3, clipnorm=0.5),
    "muon": lambda: keras.optimizers.Muon(0.1, adam_weight_decay=0.3, adam_lr_ratio=2.0),
}


def trained(optimizer):
    """The variables after three steps, each with gradients of its own."""
    rng = np.random.default_rng(3)
    variables = [
        keras.Variable(rng.normal(size=shape).astype("float32"), name=name)
        for name, shape in SHAPES.items()
    ]
    optimizer.build(variables)

    @tf.function
    def step(gradients):
        optimizer.apply(gradients, variables)

    for _ in range(3):
        step([tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES.values()])
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_result_is_that_of_keras(name, monkeypatch):
    expected = trained(OPTIMIZERS[name]())
    calls, apply_adam = [], fused_adam._apply_adam
    monkeypatch.setattr(
        fused_adam, "_apply_adam", lambda *args: calls.append(args) or apply_adam(*args)
    )
    optimizer = OPTIMIZERS[name]()
    fuse_adam(optimizer)
    for found, weights in zip(trained(optimizer), expected):
        assert_close(found, weights, additions=100)
    assert len(calls) == (2 if name == "muon" else 3)  # in the graph, traced once


def test_others_stay_as_they_are():
    optimizer = keras.optimizers.SGD(0.1)
    fuse_adam(optimizer)
    assert "update_step" not in vars(optimizer)
