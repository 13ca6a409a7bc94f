"""The random numbers of sampling, against arithmetic without limits, and as random numbers."""

import math

import numpy as np

from neo_keras.generation.sampler import gumbel_noise


def int32(number):
    return np.array([number % 2**32], "uint32").view("int32")


def hash32(x):
    """lowbias32 after a step of the golden ratio, in Python's integers."""
    x = (x + 0x9E3779B9) % 2**32
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


def expected_noise(seed, step, size):
    noise = []
    for index in range(size):
        x = hash32((hash32((hash32(seed) + step) % 2**32) + index) % 2**32)
        uniform = (((x >> 9) ^ 2**22) + 0.5) / 2**23  # the highest bit turned over
        noise.append(-math.log(-math.log(uniform)))
    return noise


def test_against_unlimited_integers():
    for seed, step in [(0, 0), (1, 0), (0, 1), (2**31 - 1, 5), (2**31, 99), (2**32 - 1, 10**6)]:
        noise = gumbel_noise(int32(seed), int32(step), 101, np)
        assert noise.dtype == np.float32 and noise.shape == (101,)
        np.testing.assert_allclose(noise, expected_noise(seed, step, 101), rtol=2e-5, atol=2e-6)


def test_numpy_and_keras_draw_the_same():
    from keras import ops

    for seed, step in [(0, 0), (7, 3), (2**32 - 1, 10**6)]:
        args = int32(seed), int32(step), 1009
        graph = ops.convert_to_numpy(gumbel_noise(*map(ops.array, args[:2]), args[2], ops))
        np.testing.assert_allclose(graph, gumbel_noise(*args, np), rtol=2e-5, atol=2e-6)


def test_the_numbers_are_gumbel_distributed():
    """Against the distribution's own function exp(-exp(-x)), by Kolmogorov and Smirnov."""
    rows = np.array([gumbel_noise(int32(5), int32(step), 100, np) for step in range(1000)])
    distribution = np.exp(-np.exp(-np.sort(rows.ravel().astype("float64"))))
    largest = abs(distribution - (np.arange(rows.size) + 0.5) / rows.size).max()
    assert largest < 1.95 / math.sqrt(rows.size)  # chance exceeds it once in a thousand
    # Neighbours along either axis have nothing in common.
    for one, other in ((rows[1:], rows[:-1]), (rows[:, 1:], rows[:, :-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.013  # four deviations
