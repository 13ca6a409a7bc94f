"""One step of training: the loss of a batch, its gradients, and the update of the weights."""

import dataclasses
import math
import operator

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from neo_keras.choices import PRECISIONS
from neo_keras.config import TrainingConfig, from_saved
from neo_keras.model.encoder_decoder import model_class
from neo_keras.model.lora import add_lora
from neo_keras.model.weights import dense
from neo_keras.training.compute import has_other_workers
from neo_keras.training.fused_adam import fuse_adam
from neo_keras.training.optimizer import make_optimizer

# Of the loss of the token after next; that of the one after has half of it, then comes a third.
FUTURE_WEIGHT = 0.3
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable("neo_keras")
class TrainStep(keras.Model):
    """A model, and all that only its training needs. `fit` trains this; the model is what is kept.

    The loss is the cross-entropy of the next token, of logits times `config.loss_temperature`, for
    a model that reads a text many times grows too sure (Guo et al. 2017, arXiv:1706.04599). For the
    gradients alone, each position also predicts `config.num_future_tokens` tokens after the next
    one, with an output layer for each (Gloeckle et al. 2024, arXiv:2404.19737).

    A batch is `config.gradient_accumulation_steps` micro-batches, one after another, in the memory
    of one. Each of them is computed by `config.cpu_replicas` replicas side by side: a core that
    computes a part by itself does not wait for the others at every operation. Gradients are summed
    over replicas, micro-batches and devices before the optimizer sees them. Where float16 makes the
    loss infinite, the optimizer skips the step, and the loss does not count.
    """

    def __init__(self, model, config):
        super().__init__()
        self.model = model
        self.config = config
        if config.num_future_tokens:
            num_logits = config.num_future_tokens * model.config.vocab_size
            # By its name it is an embedding, which is Adam's under Muon, and does not decay.
            self.future_heads = dense(num_logits, "future_unembedding", model.dtype_policy)
            self.future_heads.build((None, None, model.config.hidden_dim))
        self.built = True

    def call(self, inputs, training=False):
        return self.model(inputs, training=training)

    def train_step(self, data):
        loss, gradients = self._batch_loss_and_gradients(data)
        if tf.distribute.has_strategy():
            context, summed = tf.distribute.get_replica_context(), tf.distribute.ReduceOp.SUM
            gradients = context.all_reduce(summed, gradients)
        self.optimizer.apply(gradients, self.trainable_variables)
        has_scale = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        counts = tf.math.is_finite(loss) if has_scale else True
        return self._record(tf.where(counts, loss, 0.0), counts)

    def test_step(self, data):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        logits = [self.model(part) for part in _parts(x, self.config.cpu_replicas)]
        return self._record(_unscaled(LOSS(y, tf.concat(logits, axis=0), weights)))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of this device's batch, float32 scalar; further tokens change its gradients."""
        hidden = self.model.hidden(x, training)
        loss = self._next_token_loss(hidden, y, sample_weight)
        num_future = self.config.num_future_tokens
        if num_future:
            seq_len, vocab_size = y.shape[1], self.model.config.vocab_size
            logits = self._sharpened(ops.cast(self.future_heads(hidden), "float32"))
            logits = ops.reshape(logits, (-1, seq_len, num_future, vocab_size))
            weights = _future_weights(seq_len, sample_weight, num_future)
            future_loss = LOSS(_following(y, num_future), logits, weights)
            loss += num_future * (future_loss - ops.stop_gradient(future_loss))
        return loss

    def _next_token_loss(self, hidden, y, sample_weight):
        if sample_weight is None or self.config.jit_compile:
            return LOSS(y, self._sharpened(self.model.logits(hidden)), sample_weight)
        # Of what is not trained no logits are needed, and they are a large part of a step where the
        # vocabulary is large. XLA wants to know how many there are.
        places = tf.where(sample_weight > 0)  # [num_trained, 2]
        share = tf.shape(places)[0] / tf.size(sample_weight)
        hidden, y, weights = (tf.gather_nd(rows, places) for rows in (hidden, y, sample_weight))
        loss = LOSS(y, self._sharpened(self.model.logits(hidden)), weights)
        return tf.cast(share, "float32") * loss

    def _sharpened(self, logits):
        temperature = self.config.loss_temperature
        return logits if temperature == 1 else temperature * logits

    def _batch_loss_and_gradients(self, data):
        """(loss, gradients) of this device's batch: float32 scalar, list of dense tensors."""
        num_steps = self.config.gradient_accumulation_steps
        if num_steps == 1:
            return self._micro_batch_loss_and_gradients(data)
        micro_batches = keras.tree.map_structure(
            lambda rows: tf.reshape(rows, (num_steps, -1, *rows.shape[1:])), data
        )

        def add(i, *sums):
            micro_batch = keras.tree.map_structure(lambda rows: rows[i], micro_batches)
            loss, gradients = self._micro_batch_loss_and_gradients(micro_batch)
            return i + 1, *[a + b for a, b in zip(sums, (loss, *gradients))]

        zeros = [tf.zeros(variable.shape) for variable in self.trainable_variables]
        start, is_left = (0, 0.0, *zeros), lambda i, *_: i < num_steps
        # One iteration at a time, in the memory of one.
        _, loss, *gradients = tf.while_loop(is_left, add, start, parallel_iterations=1)
        return loss, gradients

    def _micro_batch_loss_and_gradients(self, data):
        """A micro-batch's share of these."""
        function, num_replicas = self._replica_loss_and_gradients, self.config.cpu_replicas
        if self.config.jit_compile and num_replicas > 1:
            # XLA runs what it compiles together one by one: replicas are compiled apart.
            function = tf.function(function, jit_compile=True, autograph=False)
        # What dropout samples must not depend on which replica comes first.
        states = [variable.value * 1 for variable in _dropout_states(self)]
        outputs = [
            function(part, [_after_calls(state, i) for state in states])
            for i, part in enumerate(_parts(data, num_replicas))
        ]
        for variable, state in zip(_dropout_states(self), states):
            variable.assign(_after_calls(state, num_replicas))
        losses, gradients = zip(*outputs)
        return tf.add_n(losses), [tf.add_n(parts) for parts in zip(*gradients)]

    def _replica_loss_and_gradients(self, data, states):
        """A replica's share; states: of `_dropout_states`."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        variables = self.trainable_variables
        num_shares = self.config.gradient_accumulation_steps * self.config.cpu_replicas
        with keras.StatelessScope(zip(_dropout_states(self), states)):
            # What is frozen is not watched: no gradient of it is computed.
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch([variable.value for variable in variables])
                loss = self.compute_loss(x, y, sample_weight=weights) / num_shares
                scaled = self.optimizer.scale_loss(loss)
        # Those of embeddings have a row for each look-up, which Keras would square one by one.
        gradients = map(tf.convert_to_tensor, tape.gradient(scaled, variables))
        # Among several workers TensorFlow does not know how many rows there are, nor what follows.
        return _unscaled(loss), [tf.ensure_shape(g, v.shape) for g, v in zip(gradients, variables)]

    def _record(self, loss, counts=True):
        """The mean loss so far, as `fit` and `evaluate` take it."""
        (tracker,) = self.metrics
        tracker.update_state(loss, sample_weight=tf.cast(counts, "float32"))
        mean = tf.where(tracker.count > 0, tracker.result(), float("nan"))
        # Across workers Keras averages over an axis that a mean loss does not have.
        return {tracker.name: mean[None] if has_other_workers(self.distribute_strategy) else mean}

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Keras wants a batch in one piece here, to build what is built already."""

    def get_config(self):
        return {
            "model": keras.saving.serialize_keras_object(self.model),
            "config": dataclasses.asdict(self.config),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(model, from_saved(TrainingConfig, config["config"]))


def make_train_step(model_config, config):
    """A compiled `TrainStep` of a new model, for the strategy in whose scope this is called."""
    keras.utils.set_random_seed(config.seed)
    dtype = PRECISIONS[config.mixed_precision].policy
    if config.lora:  # what is frozen needs no more digits than are computed with
        dtype = keras.DTypePolicy(dtype).compute_dtype
    model = model_class(model_config)(model_config, dtype=dtype)
    model.remat = config.remat
    if config.lora:
        add_lora(model, config.lora)
    train_step = TrainStep(model, config)
    optimizer = make_optimizer(config, train_step)
    optimizer.build(train_step.trainable_variables)
    fuse_adam(getattr(optimizer, "inner_optimizer", optimizer))
    if tf.distribute.has_strategy():
        # Keras sums over the devices what each of them has clipped; `train_step` sums before.
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
    train_step.compile(
        optimizer,
        jit_compile=config.jit_compile and config.cpu_replicas == 1,
        # None of them skips a step that is validated or sampled after.
        steps_per_execution=math.gcd(
            config.steps_per_execution, config.eval_every, config.sample_every
        ),
    )
    return train_step


def _dropout_states(model):
    """The variables in which the dropout layers keep (seed, number of calls)."""
    return [v for v in model.variables if v.path.endswith("seed_generator_state")]


def set_dropout_step(train_step):
    """Makes every dropout layer sample what comes after the steps that the optimizer has made.

    Keras does not save how often a layer was called.
    """
    config = train_step.config
    calls_per_step = config.gradient_accumulation_steps * config.cpu_replicas
    num_calls = int(train_step.optimizer.iterations.numpy()) * calls_per_step
    for variable in _dropout_states(train_step):
        seed, _ = ops.convert_to_numpy(variable)
        variable.assign([seed, num_calls])


def _after_calls(state, num_calls):
    return state + tf.constant([0, num_calls], state.dtype)


def _unscaled(loss):
    """The mean over this device's rows: under a strategy `LOSS` gives its share of the mean."""
    return loss * tf.distribute.get_strategy().num_replicas_in_sync


def _parts(data, num_parts):
    """Parts of the rows of a structure of tensors, as equal as can be."""
    first = keras.tree.flatten(data)[0]
    num_rows = first.shape[0] or tf.shape(first)[0]
    bounds = [num_rows * i // num_parts for i in range(num_parts + 1)]
    parts = map(operator.itemgetter, map(slice, bounds, bounds[1:]))
    return [keras.tree.map_structure(part, data) for part in parts]


def _following(rows, num_future):
    """What follows in rows [batch_size, seq_len], past their end anything: [..., num_future]."""
    return ops.stack([ops.roll(rows, -i, axis=1) for i in range(1, num_future + 1)], axis=-1)


def _future_weights(seq_len, sample_weight, num_future):
    """Of what `_following` gives: less further ahead, and 0 past the end."""
    ahead = np.arange(1, num_future + 1)
    inside = np.arange(seq_len)[None, :, None] < seq_len - ahead  # [1, seq_len, num_future]
    weights = (FUTURE_WEIGHT / ahead * inside).astype("float32")
    return weights if sample_weight is None else weights * _following(sample_weight, num_future)
