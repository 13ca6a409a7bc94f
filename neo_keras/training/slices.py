"""A training step in slices of its batch: one after another, for memory, or side by side."""

import functools
import itertools
import operator

import keras
import tensorflow as tf

from neo_keras.training import gradients


def sliced_model(model_class, config):
    """The class with a training step of slices of its batch.

    `config.gradient_accumulation_steps` slices come one by one, so that a large batch fits into
    the memory of a small one. Each of them is `config.cpu_replicas` parts that are computed side
    by side: what a core does by itself, it does without waiting for the others, as it would at each
    operation they share.

    The gradients are summed before the optimizer sees them: what it clips, counts and averages is
    what it would be of the batch as a whole. The loss is the mean of the batch. Where float16 makes
    it infinite, the optimizer skips the step, and the loss does not count.

    Args:
        model_class: a `keras.Model` whose loss is the mean over a batch.
        config: `TrainingConfig`.
    """
    num_parts = config.cpu_replicas or 1
    if config.gradient_accumulation_steps == num_parts == 1 and config.mixed_precision != "float16":
        return model_class
    return _sliced_model(
        model_class, config.gradient_accumulation_steps, num_parts, config.jit_compile
    )


@functools.cache
def _sliced_model(model_class, num_slices, num_parts, jit_compile):
    class Sliced(model_class):
        def train_step(self, data):
            if num_slices > 1:
                slices = keras.tree.map_structure(
                    lambda rows: tf.reshape(rows, (num_slices, -1, *rows.shape[1:])), data
                )
                loss, split = _sum_over_slices(self._loss_and_gradients, slices)
            else:
                loss, split = self._loss_and_gradients(data)
            self.optimizer.apply_gradients(zip(gradients.join(split), self.trainable_variables))
            counts = True
            if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
                counts = tf.math.is_finite(loss)
                loss = tf.where(counts, loss, 0.0)
            (tracker,) = self.metrics
            tracker.update_state(loss, sample_weight=tf.cast(counts, "float32"))
            return {tracker.name: tf.where(tracker.count > 0, tracker.result(), float("nan"))}

        def _loss_and_gradients(self, data):
            """A slice's share of the loss, and of the gradients of the scaled loss, split."""
            function = self._part_loss_and_gradients
            if jit_compile and num_parts > 1:
                function = tf.function(function, jit_compile=True, autograph=False)
            # What dropout draws must not depend on which part comes first.
            states = [variable.value * 1 for variable in dropout_states(self)]
            outputs = [
                function(part, [_after_draws(state, i) for state in states])
                for i, part in enumerate(_parts(data, num_parts))
            ]
            for variable, state in zip(dropout_states(self), states):
                variable.assign(_after_draws(state, num_parts))
            return _sum(outputs)

        def _part_loss_and_gradients(self, data, states):
            """As `_loss_and_gradients`, of one part; states: of `dropout_states`."""
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            variables = self.trainable_variables
            with keras.StatelessScope(zip(dropout_states(self), states)):
                with tf.GradientTape() as tape:
                    y_pred = self(x, training=True)
                    loss = self.compute_loss(x, y, y_pred, weights) / (num_slices * num_parts)
                    scaled = self.optimizer.scale_loss(loss)
                split = gradients.split(tape.gradient(scaled, variables), variables)
            # Under a strategy `compute_loss` gives this device's share of the mean.
            return loss * tf.distribute.get_strategy().num_replicas_in_sync, split

        def call(self, inputs, training=False):
            call = super().call
            if training or num_parts == 1:
                return call(inputs, training)
            return tf.concat([call(part) for part in _parts(inputs, num_parts)], axis=0)

        # What is copied or saved is the model itself.
        from_config = model_class.from_config

    return Sliced


def dropout_states(model):
    """The variables in which the dropout layers keep (seed, number of draws)."""
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


def _after_draws(state, num_draws):
    return state + tf.constant([0, num_draws], state.dtype)


def _parts(data, num_parts):
    """Parts of the rows of a structure of tensors, as equal as can be."""
    first = keras.tree.flatten(data)[0]
    num_rows = first.shape[0] or tf.shape(first)[0]
    bounds = [num_rows * i // num_parts for i in range(num_parts + 1)]
    return [
        keras.tree.map_structure(operator.itemgetter(slice(*pair)), data)
        for pair in itertools.pairwise(bounds)
    ]


def _sum(outputs):
    """Of structures that are alike: tensors added, the rows of `tf.IndexedSlices` joined."""
    sums = [_sum_of_one(values) for values in zip(*map(tf.nest.flatten, outputs))]
    return tf.nest.pack_sequence_as(outputs[0], sums)


def _sum_of_one(values):
    if not isinstance(values[0], tf.IndexedSlices):
        return tf.add_n(values)
    return tf.IndexedSlices(
        tf.concat([rows.values for rows in values], axis=0),
        tf.concat([rows.indices for rows in values], axis=0),
        values[0].dense_shape,
    )


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
