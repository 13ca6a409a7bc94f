"""What training computes on: which devices and cores, of one machine or of many."""

import contextlib
import functools
import os
import pathlib
import signal
import sys
import zlib

import tensorflow as tf

from neo_keras.atomic_files import parse_json
from neo_keras.environment import cpu_features, keep_memory, num_cores
from neo_keras.errors import FailedError, InputError
from neo_keras.training.dataset import share_of
from neo_keras.training.resolve import Machine

NVIDIA_DRIVER = pathlib.Path("/proc/driver/nvidia/version")
INTEL_DRIVER = pathlib.Path("/dev/dri")
# What TensorFlow raises when another process is gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
        tf.errors.DeadlineExceededError)  # fmt: skip
EXAMPLE = (
    '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def select_device(name):
    """Makes TensorFlow use "cpu", "gpu" or "xpu"; raises `InputError` if it sees none."""
    if name != "cpu" and not tf.config.list_physical_devices(name.upper()):
        reason = {"gpu": _why_no_gpu, "xpu": _why_no_xpu}[name]()
        raise InputError(
            f"--device {name}: TensorFlow {tf.__version__} sees no {name.upper()}, for {reason}; "
            "or use --device auto"
        )
    for other in ("GPU", "XPU"):
        if other != name.upper():
            tf.config.set_visible_devices([], other)


def check_placement(model):
    """Raises `FailedError` if there is an XPU and the model's weights are not on it."""
    if not tf.config.get_visible_devices("XPU"):
        return
    for variable in model.trainable_variables:
        device = variable.value.device
        if "XPU" not in device:
            raise FailedError(
                f"{variable.path} is on {device or 'no device'}, expected the XPU: check the "
                "versions of TensorFlow and its plug-in (requirements-xpu.txt), or use --device cpu"
            )


def this_machine(strategy=None):
    """The `Machine` for a training under a `tf.distribute.Strategy`, or on one device."""
    device = next(filter(tf.config.get_visible_devices, ("GPU", "XPU")), "CPU")
    gpus = tf.config.get_visible_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    is_distributed = strategy not in (None, tf.distribute.get_strategy())
    return Machine(
        device,
        compute_capability=details.get("compute_capability", (0, 0)),
        cpu_features=frozenset(cpu_features()),
        num_cores=1 if is_distributed or device != "CPU" else _num_cores_to_share(),
        num_devices=strategy.num_replicas_in_sync if is_distributed else None,
    )


def _num_cores_to_share():
    """1 if TensorFlow has computed already: then its threads stay, unless they were set here."""
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(num_cores())
        return num_cores()
    return 1


def prepare_cpu(num_replicas):
    """Gives the cores to replicas of a batch, instead of to one operation at a time.

    On two cores a step of the default preset takes three quarters of the time (docs/lab_notes.md).
    Memory that is freed is kept.
    """
    keep_memory()
    if num_replicas > 1:
        with contextlib.suppress(RuntimeError):  # TensorFlow has computed something already
            threads = max(1, num_cores() // num_replicas)
            tf.config.threading.set_intra_op_parallelism_threads(threads)


def describe_compute(config):
    """What was chosen, for people."""
    compiler = "compiled by XLA" if config.jit_compile else "TensorFlow's own kernels"
    replicas = f", {config.cpu_replicas} CPU replicas" if config.cpu_replicas > 1 else ""
    return f"{config.mixed_precision}, {compiler}{replicas}"


def _why_no_gpu():
    if not tf.test.is_built_with_cuda():
        return "it is a build for CPUs: pip install -r requirements-gpu.txt"
    if not NVIDIA_DRIVER.exists():
        return "there is no NVIDIA driver: install it"
    return "CUDA's libraries are missing or too old: pip install -r requirements-gpu.txt"


def _why_no_xpu():
    if not tf.__version__.startswith("2.15."):
        run = "`make xpu`, and run with .venv-xpu/bin/python"
        return f"Intel's plug-in is for TensorFlow 2.15: {run}"
    if not INTEL_DRIVER.exists():
        return "there is no driver of an Intel GPU (/dev/dri): install it"
    return (
        "the plug-in is the one for CPUs, or the Level Zero driver or the oneAPI 2025 runtime is "
        "missing: `make xpu`, and install what its lines on stderr name"
    )


def read_cluster():
    """("host:port" of all processes, the chief first; this one's place), of `TF_CONFIG`."""
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
        fix = f"start all of them again with --resume ({type(error).__name__})"
        message = f"error: another worker ended, or cannot be reached: see what it says, and {fix}"
        print(message, file=sys.stderr, flush=True)
        os._exit(1)  # TensorFlow's own farewell would wait for the others
