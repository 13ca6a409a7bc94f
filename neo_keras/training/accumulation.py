"""A training step in slices: the gradients of a large batch, in the memory of a small one."""

import functools

import keras
import tensorflow as tf

from neo_keras.training import gradients


def accumulating_model(model_class, config):
    """The class with a training step of `config.accumulate` slices of its batch, one by one.

    Their gradients are summed before the optimizer sees them: what it clips, counts and averages
    is what it would be if the whole batch fitted into memory. The loss is the mean of the batch.
    Where float16 makes it infinite, the optimizer skips the step, and the loss does not count.

    Args:
        model_class: a `keras.Model` whose loss is the mean over a batch.
        config: `TrainingConfig`.
    """
    if config.accumulate == 1 and config.mixed_precision != "float16":
        return model_class
    return _accumulating_model(model_class, config.accumulate)


@functools.cache
def _accumulating_model(model_class, num_slices):
    class Accumulating(model_class):
        def train_step(self, data):
            slices = keras.tree.map_structure(
                lambda rows: tf.reshape(rows, (num_slices, -1, *rows.shape[1:])), data
            )
            loss, parts = _sum_over_slices(self._loss_and_gradients, slices)
            self.optimizer.apply_gradients(zip(gradients.join(parts), self.trainable_variables))
            counts = True
            if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
                counts = tf.math.is_finite(loss)
                loss = tf.where(counts, loss, 0.0)
            (tracker,) = self.metrics
            tracker.update_state(loss, sample_weight=tf.cast(counts, "float32"))
            return {tracker.name: tf.where(tracker.count > 0, tracker.result(), float("nan"))}

        def _loss_and_gradients(self, data):
            """A slice's share of the loss, and of the gradients of the scaled loss, split."""
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True), weights) / num_slices
                scaled = self.optimizer.scale_loss(loss)
            variables = self.trainable_variables
            parts = gradients.split(tape.gradient(scaled, variables), variables)
            # Under a strategy `compute_loss` gives this device's share of the mean.
            return loss * tf.distribute.get_strategy().num_replicas_in_sync, parts

        # What is copied or saved is the model itself.
        from_config = model_class.from_config

    return Accumulating


def _sum_over_slices(function, slices):
    """What a function gives for each slice, one after another: tensors added, rows joined.

    Args:
        function: gives a structure of tensors and `tf.IndexedSlices`.
        slices: structure of tensors, its arguments, one after another on the first axis.
    """
    num_slices = keras.tree.flatten(slices)[0].shape[0]
    specs = keras.tree.map_structure(lambda rows: tf.TensorSpec(rows.shape[1:], rows.dtype), slices)
    # Traced before the loop, which must know what it sums.
    function = tf.function(function, autograph=False).get_concrete_function(specs)
    outputs = tf.nest.flatten(function.structured_outputs)

    def add(i, sums):
        one = function(keras.tree.map_structure(lambda rows: rows[i], slices))
        return i + 1, [_added(*pair, i) for pair in zip(sums, tf.nest.flatten(one))]

    _, sums = tf.while_loop(
        lambda i, _: i < num_slices,
        add,
        (0, [_nothing_yet(output, num_slices) for output in outputs]),
        parallel_iterations=1,  # memory for one slice at a time
    )
    sums = [_finished(*pair) for pair in zip(sums, outputs)]
    return tf.nest.pack_sequence_as(function.structured_outputs, sums)


def _nothing_yet(output, num_slices):
    if not isinstance(output, tf.IndexedSlices):
        return tf.zeros(output.shape, output.dtype)
    return [
        tf.TensorArray(part.dtype, num_slices, element_shape=part.shape)
        for part in (output.values, output.indices)
    ]


def _added(total, output, i):
    if not isinstance(output, tf.IndexedSlices):
        return total + output
    values, indices = total
    return [values.write(i, output.values), indices.write(i, output.indices)]


def _finished(total, output):
    if not isinstance(output, tf.IndexedSlices):
        return total
    values, indices = (array.concat() for array in total)
    return tf.IndexedSlices(values, indices, tf.constant(output.shape.as_list()))
