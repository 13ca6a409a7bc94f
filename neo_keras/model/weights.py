"""The weights that training starts from, and their average."""

import contextlib

import keras

INITIALIZER_STDDEV = 0.02  # of weight matrices, as GPT-2


def initial_weights(stddev=INITIALIZER_STDDEV):
    """An initializer that gives other numbers each time: with a plain seed it would not."""
    return keras.initializers.RandomNormal(stddev=stddev, seed=keras.random.SeedGenerator())


def dense(units, name, dtype, stddev=INITIALIZER_STDDEV, use_bias=False):
    """A `keras.layers.Dense` with these weights."""
    initializer = initial_weights(stddev)
    return keras.layers.Dense(units, None, use_bias, initializer, dtype=dtype, name=name)


@contextlib.contextmanager
def averaged_weights(model):
    """Within the block a trained model has the average of its weights, if its optimizer keeps one.

    The weights come back to the last bit: Keras' `SwapEMAWeights` adds and subtracts, and rounding
    would make a resumed run another one.
    """
    if not getattr(model.optimizer, "inner_optimizer", model.optimizer).use_ema:
        yield
        return
    weights = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(weights)
