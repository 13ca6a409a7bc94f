"""Training on several devices, of one machine or of many: `tf.distribute`, and what Keras lacks."""

import contextlib
import functools
import os
import signal
import sys
import zlib

import tensorflow as tf

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError
from neo_keras.training.dataset import share_of

# What TensorFlow raises when another process is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
        tf.errors.DeadlineExceededError)  # fmt: skip
EXAMPLE = (
    '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def read_cluster():
    """What the environment variable `TF_CONFIG` says, or `InputError`.

    Returns:
        (addresses, index): "host:port" of all processes, the chief first; this one's place there.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise _mistake("got none")
    try:
        config = parse_json(text)
        cluster, task = config["cluster"], config["task"]
        job, index = task["type"], int(task["index"])
        jobs = {name: list(addresses) for name, addresses in cluster.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _mistake(f"got {text!r} ({type(error).__name__}: {error})") from None
    if not jobs or not jobs.keys() <= {"chief", "worker"} or len(jobs.get("chief", "1")) != 1:
        raise _mistake(f"got the jobs {sorted(jobs)}; only workers and one chief train here")
    if not 0 <= index < len(jobs.get(job, ())):
        raise _mistake(f"got the task {job} {index}, which is not in the cluster")
    chief = jobs.get("chief", [])
    addresses = chief + jobs.get("worker", [])
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdecimal():
            raise _mistake(f"got the address {address!r}, which is not host:port")
    if len(set(addresses)) < len(addresses):
        raise _mistake("got an address twice")
    return addresses, index + (len(chief) if job == "worker" else 0)


def _mistake(what):
    return InputError(
        f"--strategy multi-worker needs the environment variable TF_CONFIG, such as {EXAMPLE}: "
        f"{what} (docs/distributed.md)"
    )


def make_strategy(name):
    """A `tf.distribute.Strategy`; make it before TensorFlow does anything else.

    It is "mirrored" (all devices of this machine, or `InputError` if there is one) or
    "multi-worker" (those of all that `TF_CONFIG` lists; waits for them).
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
    listed = tf.config.list_logical_devices
    devices = [device.name for device in listed("GPU") or listed("CPU")]
    if len(devices) < 2:
        raise InputError(
            "--strategy mirrored needs two devices at least, TensorFlow sees "
            f"{', '.join(devices)} only: leave it out"
        )
    return tf.distribute.MirroredStrategy(devices)


def has_other_workers(strategy):
    """Whether other processes take part."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def distribute(strategy, dataset):
    """A dataset as `fit` and `evaluate` take it under a strategy; for one device, as it is."""

    def share_of_worker(context):
        parts = context.num_replicas_in_sync
        if parts == 1:
            return dataset
        return share_of(dataset, context.input_pipeline_id, context.num_input_pipelines, parts)

    distributed = strategy.distribute_datasets_from_function(share_of_worker)
    if isinstance(distributed, tf.distribute.DistributedDataset):
        # It counts devices' batches, Keras steps. One step too far, and the end of the data races
        # with what does not wait for data: it would count rows or steps that there were not.
        distributed._cardinality = dataset.cardinality().numpy()
    return distributed


def gather(strategy, number):
    """The numbers, below 2**24, with which all replicas call this, in the same order everywhere."""
    return [int(gathered) for gathered in _gather_function(strategy)(tf.constant(float(number)))]


@functools.cache
def _gather_function(strategy):
    def share(number):
        context = tf.distribute.get_replica_context()
        mine = tf.one_hot(context.replica_id_in_sync_group, strategy.num_replicas_in_sync) * number
        return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

    @tf.function(autograph=False)
    def share_of_replicas(number):
        return strategy.experimental_local_results(strategy.run(share, (number,)))[0]

    return share_of_replicas


def check_alike(strategy, *state):
    """Raises `InputError` on every worker unless this state, by its `repr`, is that of all."""
    if has_other_workers(strategy):
        checksums = gather(strategy, zlib.crc32(repr(state).encode()) % 2**24)
        if len(set(checksums)) > 1:
            raise InputError(
                "the workers differ in their arguments, text or checkpoint: start all with the "
                "same, and with a --run that all of them share"
            )


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
