"""Training on several devices, of one machine or of many: `tf.distribute`, and what Keras lacks."""

import contextlib
import functools
import os
import signal
import sys
import zlib

import keras
import tensorflow as tf

from neo_keras.errors import InputError
from neo_keras.training.cluster import read_cluster

# What TensorFlow raises when another process is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
        tf.errors.DeadlineExceededError)  # fmt: skip


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
        addresses, index = read_cluster()
        worker = f"worker {index + 1} of {len(addresses)}, {addresses[index]}"
        print(f"{worker}: waiting until all have started", flush=True)
        # It waits for the others in native code, where Python would not see Ctrl-C.
        handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        finally:
            signal.signal(signal.SIGINT, handler)
    list_devices = tf.config.list_logical_devices
    devices = [device.name for device in list_devices("GPU") or list_devices("CPU")]
    if len(devices) < 2:
        raise InputError(
            "--strategy mirrored needs two devices at least, TensorFlow sees "
            f"{', '.join(devices)} only: leave it out"
        )
    return tf.distribute.MirroredStrategy(devices)


def has_other_workers(strategy):
    """Whether other processes take part."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def distribute(strategy, make_dataset, *arguments, **settings):
    """The dataset that `fit` and `evaluate` take under a strategy; for one device, as it is made.

    Args:
        strategy: `tf.distribute.Strategy`.
        make_dataset: such as `training_dataset`; its `share` is this worker's.
        *arguments, **settings: what it takes besides.
    """
    steps = []

    def share_of_worker(context):
        share = context.input_pipeline_id, context.num_input_pipelines
        dataset = make_dataset(*arguments, **settings, share=share)
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


def _gather(strategy, number):
    """The numbers, below 2**24, with which all replicas call this, in the same order everywhere."""
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
    """Raises `InputError` on every worker unless this state, by its `repr`, is that of all."""
    if has_other_workers(strategy):
        checksums = _gather(strategy, zlib.crc32(repr(state).encode()) % 2**24)
        if len(set(checksums)) > 1:
            raise InputError(
                "the workers differ in their arguments, text or checkpoint: start all with the "
                "same, and with a --run that all of them share"
            )


class SyncStop(keras.callbacks.Callback):
    """Ends training after the same step on every worker; called after `stop`, `StopOnSignal`."""

    def __init__(self, strategy, stop):
        super().__init__()
        self.strategy = strategy
        self.stop = stop

    def on_train_batch_end(self, batch, logs=None):
        if has_other_workers(self.strategy):
            signals = _gather(self.strategy, self.stop.signal or -int(self.model.stop_training))
            self.model.stop_training = any(signals)
            if max(signals) > 0:
                self.stop.signal = signal.Signals(max(signals))


@contextlib.contextmanager
def lost_workers_end_all():
    """Ends this process with one line when it loses the others."""
    try:
        yield
    except LOST as error:
        print(
            "error: another worker ended, or cannot be reached: see what it says, and start all "
            f"of them again with --resume ({type(error).__name__})",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # TensorFlow's own farewell would wait for the others
