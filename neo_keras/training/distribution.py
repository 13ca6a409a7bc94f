"""Training on several devices, of one machine or of many: `tf.distribute`, and what Keras lacks."""

import contextlib
import dataclasses
import functools
import os
import signal
import sys
import zlib

import keras
import tensorflow as tf

from neo_keras.errors import InputError
from neo_keras.training import gradients
from neo_keras.training.cluster import read_cluster


def make_strategy(name):
    """A strategy of `tf.distribute`; make it before TensorFlow does anything else.

    Args:
        name: "mirrored" (all devices of this machine) or "multi-worker" (all devices of all the
            machines that `TF_CONFIG` lists, one process on each; waits for them).

    Returns:
        `tf.distribute.Strategy`. Every replica has all weights and its share of each batch.

    Raises:
        InputError: there is one device only.
    """
    tf.get_logger().setLevel("CRITICAL")  # what fails raises an exception
    if name == "multi-worker":
        cluster = read_cluster()
        addresses = cluster.addresses
        print(
            f"worker {cluster.index + 1} of {len(addresses)}, {addresses[cluster.index]}: waiting "
            "until all have started",
            flush=True,
        )
        # It waits for the others in native code, where Python would not see Ctrl-C.
        handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        finally:
            signal.signal(signal.SIGINT, handler)
    devices = [
        device.name
        for device in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    ]
    if len(devices) < 2:
        raise InputError(
            "--strategy mirrored needs two devices at least, TensorFlow sees "
            f"{', '.join(devices)} only: leave it out"
        )
    return tf.distribute.MirroredStrategy(devices)


def has_other_workers(strategy):
    """Whether other processes take part, on this machine or on others."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def suit_strategy(config, strategy):
    """A training configuration that a strategy can do.

    Args:
        config: `TrainingConfig`.
        strategy: `tf.distribute.Strategy`.

    Returns:
        `TrainingConfig`; for one device as it was.

    Raises:
        InputError: the batch cannot be shared equally.
    """
    if not tf.distribute.has_strategy() and strategy is tf.distribute.get_strategy():
        return config
    num_replicas = strategy.num_replicas_in_sync
    if config.batch_size % num_replicas:
        raise InputError(
            f"the batch is shared equally by {num_replicas} devices: the batch size must be "
            f"divisible by that, got {config.batch_size}: try --batch-size "
            f"{-(-config.batch_size // num_replicas) * num_replicas}"
        )
    # Keras fails with either when gradients cross devices inside the compiled step.
    return dataclasses.replace(config, jit_compile=False, steps_per_execution=1, cpu_replicas=1)


def describe_strategy(strategy):
    """The devices, for people; nothing where there is one."""
    num_replicas = strategy.num_replicas_in_sync
    return f", on {num_replicas} devices" if num_replicas > 1 else ""


def distribute(strategy, make_dataset):
    """The dataset that `fit` and `evaluate` take under a strategy.

    Args:
        strategy: `tf.distribute.Strategy`.
        make_dataset: function of a `share` that makes this worker's part of every batch, as
            `training_dataset` does.

    Returns:
        `tf.distribute.DistributedDataset`; for one device, the dataset itself.
    """
    steps = []

    def share_of_worker(context):
        dataset = make_dataset(share=(context.input_pipeline_id, context.num_input_pipelines))
        steps.append(dataset.cardinality().numpy())
        num_devices = context.num_replicas_in_sync // context.num_input_pipelines
        if num_devices == 1:
            return dataset
        rows = tf.nest.flatten(dataset.element_spec)[0].shape[0] // num_devices
        return dataset.rebatch(rows, drop_remainder=True)

    dataset = strategy.distribute_datasets_from_function(share_of_worker)
    if isinstance(dataset, tf.distribute.DistributedDataset):
        # It counts devices' batches, Keras steps. One step too far, and the end of the data races
        # with what does not wait for data: it would count rows or steps that there were not.
        dataset._cardinality = steps[0]
    return dataset


def replicated_model(model_class):
    """The class with what Keras needs under the strategy whose scope this is, if any."""
    return _replicated_model(model_class) if tf.distribute.has_strategy() else model_class


@functools.cache
def _replicated_model(model_class):
    class Replicated(model_class):
        def train_step(self, data):
            return self._reducible(super().train_step(data))

        def test_step(self, data):
            return self._reducible(super().test_step(data))

        def _reducible(self, logs):
            # Across workers Keras averages over an axis that a mean loss does not have.
            if not has_other_workers(self.distribute_strategy):
                return logs
            return {name: value[None] for name, value in logs.items()}

        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            """Keras wants a batch in one piece here, to build what is built already."""

        # What is copied or saved is the model itself.
        from_config = model_class.from_config

    return Replicated


def replicated_optimizer(optimizer):
    """Makes an optimizer see the gradients of the whole batch, not of each device's share."""
    if tf.distribute.has_strategy():
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner.__class__ = _subclass(_Summed, type(inner))
        optimizer.__class__ = _subclass(_Summing, type(optimizer))
    return optimizer


class _Summing:
    def apply(self, grads, trainable_variables=None):
        parts = gradients.split(grads, trainable_variables)
        context = tf.distribute.get_replica_context()
        parts = context.all_reduce(tf.distribute.ReduceOp.SUM, parts)
        super().apply(gradients.join(parts), trainable_variables)


class _Summed:
    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # which they are already


@functools.cache
def _subclass(*bases):
    return type("Replicated", bases, {})


def gather(strategy, number):
    """A number of each replica, for all of them.

    Args:
        strategy: `tf.distribute.Strategy`; all its workers must call this at the same point.
        number: int below 2**24.

    Returns:
        list of int, in the same order everywhere.
    """
    return [int(gathered) for gathered in _gather_function(strategy)(tf.constant(float(number)))]


@functools.cache
def _gather_function(strategy):
    def share(number):
        context = tf.distribute.get_replica_context()
        mine = tf.one_hot(context.replica_id_in_sync_group, strategy.num_replicas_in_sync) * number
        return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    def share_of_replicas(number):
        return strategy.experimental_local_results(strategy.run(share, (number,)))[0]

    return tf.function(share_of_replicas, autograph=False)


def check_alike(strategy, *state):
    """Raises `InputError` on every worker unless all of them are about to do the same.

    Args:
        strategy: `tf.distribute.Strategy`.
        *state: whatever must be the same, with a `repr` that tells.
    """
    if has_other_workers(strategy):
        checksums = gather(strategy, zlib.crc32(repr(state).encode()) % 2**24)
        if len(set(checksums)) > 1:
            raise InputError(
                "the workers differ in their arguments, text or checkpoint: start all with the "
                "same, and with a --run that all of them share"
            )


class SyncStop(keras.callbacks.Callback):
    """Ends training after the same step on every worker, when one of them was asked to.

    Args:
        strategy: `tf.distribute.Strategy`.
        stop: `StopOnSignal`, called before this one.
    """

    def __init__(self, strategy, stop):
        super().__init__()
        self.strategy = strategy
        self.stop = stop

    def on_train_batch_end(self, batch, logs=None):
        if has_other_workers(self.strategy):
            signals = gather(self.strategy, self.stop.signal or -int(self.model.stop_training))
            self.model.stop_training = any(signals)
            if max(signals) > 0:
                self.stop.signal = signal.Signals(max(signals))


@contextlib.contextmanager
def lost_workers_end_all():
    """Ends this process with one line when it loses the others."""
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    ) as error:
        print(
            "error: another worker ended, or cannot be reached: see what it says, and start all "
            f"of them again with --resume ({type(error).__name__})",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # TensorFlow's own farewell would wait for the others
