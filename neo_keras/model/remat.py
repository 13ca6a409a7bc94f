"""Rematerialization: less memory in training, for a second forward pass of every block."""

import keras
from keras import ops


def rematerialized(block):
    """`block.call`, which keeps only its inputs and computes the rest anew for the gradients.

    Source: Chen et al. 2016, arXiv:1604.06174.
    """

    def call(x, attention_mask, source=None, **settings):
        source = source or ()
        num_sources = len(source)
        weights = [variable.value for variable in block.trainable_variables]
        # Where the dropout layers stand: both passes sample the same.
        states = [variable.value * 1 for variable in block.non_trainable_variables]

        def pure_call(x, *others):
            source, weights = others[:num_sources], others[num_sources:]
            outputs, _ = block.stateless_call(
                weights, states, x, attention_mask, source=source or None, **settings
            )
            return outputs

        outputs = keras.remat(pure_call)(x, *source, *weights)
        for variable in block.non_trainable_variables:  # (seed, number of draws)
            variable.assign(variable + ops.array([0, 1], variable.dtype))
        return outputs

    return call
