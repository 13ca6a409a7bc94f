"""How far two float32 computations of the same thing may be apart, on whatever CPU they ran."""

import numpy as np

EPSILON = np.finfo("float32").eps  # 1.2e-7


def assert_close(actual, desired, additions, magnitude=None):
    """Asserts that two arrays differ by no more than rounding.

    A rounding is off by epsilon / 2 at most. Added in another order, or with fused multiplications,
    a sum of n terms changes by epsilon / 2 * sqrt(n) * their magnitude as a rule, and the largest
    of many sums by some four times that. Weights that are 1% off change a model's logits by twenty
    times as much and more.

    Args:
        actual, desired: arrays of one shape.
        additions: how many come one after another on the way to a number. In a model these are the
            inputs of its matrix products, one product after the other.
        magnitude: of what is added; by default the largest of `desired`.
    """
    magnitude = np.abs(desired).max() if magnitude is None else magnitude
    allowed = 4 * EPSILON / 2 * np.sqrt(additions) * magnitude
    np.testing.assert_allclose(actual, desired, rtol=0, atol=allowed)


def assert_same_training(losses, expected_losses, weights, expected_weights):
    """Asserts that two runs make the same steps but for rounding.

    The losses, some 4, and the weights, some 1, are off by a few epsilon from the start. A step
    adds a share of its own: rounding changes gradients by some 1e-5 of their size, and steps by
    more where an optimizer divides by small ones, of a learning rate of 1e-3 to 1e-1.

    Args:
        losses, expected_losses: one for each step.
        weights, expected_weights: lists of arrays.
    """
    allowed = 1e-6 * len(losses)
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=allowed)
    for actual, desired in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=0, atol=allowed)
