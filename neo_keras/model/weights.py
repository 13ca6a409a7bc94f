"""The random numbers that training starts from."""

import keras

INITIALIZER_STDDEV = 0.02  # of weight matrices, as GPT-2


def initial_weights(stddev=INITIALIZER_STDDEV):
    """An initializer that gives other numbers each time: with a plain seed it would not."""
    return keras.initializers.RandomNormal(stddev=stddev, seed=keras.random.SeedGenerator())
