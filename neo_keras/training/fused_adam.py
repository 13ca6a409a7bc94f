"""Adam's update of a variable in one pass over memory, where Keras' operators take a dozen.

At 124M parameters that is a fifth of a training step on two cores (docs/lab_notes.md).
"""

import keras
import tensorflow as tf


def fuse_adam(optimizer):
    """Makes a Keras optimizer compute Adam, if it does, with TensorFlow's own kernel for it.

    The result is that of Keras, but for rounding. Under a strategy, Keras' operators stay.
    """
    if tf.distribute.has_strategy():
        return
    if isinstance(optimizer, keras.optimizers.Muon):

        def update(gradient, variable, learning_rate, m, v):
            settings = _settings(optimizer, optimizer.adam_beta_1, optimizer.adam_beta_2)
            _apply_adam(gradient, variable, learning_rate, m, v, settings)

        optimizer._adamw_update_step = update
    elif isinstance(optimizer, keras.optimizers.Adam):  # AdamW is one

        def update_all(gradients, variables, learning_rate):
            settings = _settings(optimizer, optimizer.beta_1, optimizer.beta_2)
            for gradient, variable in zip(gradients, variables):
                i = optimizer._get_variable_index(variable)
                moments = optimizer._momentums[i], optimizer._velocities[i]
                _apply_adam(gradient, variable.value, learning_rate, *moments, settings)

        optimizer._backend_update_step = update_all


def _settings(optimizer, beta_1, beta_2):
    step = tf.cast(optimizer.iterations + 1, "float32")
    return {
        "beta1": beta_1, "beta2": beta_2, "beta1_power": beta_1**step, "beta2_power": beta_2**step,
        "epsilon": optimizer.epsilon,
    }  # fmt: skip


def _apply_adam(gradient, variable, learning_rate, m, v, settings):
    handles = {"var": variable.handle, "m": m.value.handle, "v": v.value.handle}
    tf.raw_ops.ResourceApplyAdam(**handles, grad=gradient, lr=learning_rate, **settings)
