"""Random numbers that depend on nothing but (seed, step, index): the same in NumPy and in a graph.

Only operators that LiteRT has are used, so that a phone and a browser sample what Python samples.
"""

# Of a hash by Chris Wellons, lowbias32 (nullprogram.com/blog/2018/07/31), as signed numbers.
FACTORS = 0x7FEB352D, 0x846CA68B - 2**32
GOLDEN_RATIO = 0x9E3779B9 - 2**32  # moves 0 away from itself (Steele et al. 2014)
UNIFORM_BITS = 23  # so that every uniform number is exact in float32, and none is 0 or 1


def gumbel_noise(seed, step, size, ops):
    """Samples from the standard Gumbel distribution.

    The index of the largest of logits + noise is a sample from softmax(logits) (Maddison et al.
    2014, arXiv:1411.0030).

    Args:
        seed: int32 [1].
        step: int32 [1] or [num_steps, 1], how many tokens were sampled before.
        size: how many numbers, int.
        ops: `numpy` or `keras.ops`.

    Returns:
        float32 [size] or [num_steps, size].
    """
    x = _hash(_hash(_hash(seed, ops) + step, ops) + ops.arange(size, dtype="int32"), ops)
    bits = ops.right_shift(x, 32 - UNIFORM_BITS) + 2 ** (UNIFORM_BITS - 1)  # 0 .. 2**23 - 1
    uniform = (ops.array(bits, dtype="float32") + 0.5) * 2.0**-UNIFORM_BITS
    return -ops.log(-ops.log(uniform))


def _hash(x, ops):
    x = x + GOLDEN_RATIO
    x = ops.bitwise_xor(x, _logical_right_shift(x, 16, ops)) * FACTORS[0]
    x = ops.bitwise_xor(x, _logical_right_shift(x, 15, ops)) * FACTORS[1]
    return ops.bitwise_xor(x, _logical_right_shift(x, 16, ops))


def _logical_right_shift(x, bits, ops):
    # The shift that there is fills a negative number up with ones: take them off again.
    return ops.right_shift(x, bits) - ops.right_shift(x, 31) * (1 << (32 - bits))
