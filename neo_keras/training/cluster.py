"""Who takes part in a training on several machines. Imports no TensorFlow."""

import os

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError
from neo_keras.run_directory.directory import RunDirectory

EXAMPLE = (
    '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def read_cluster():
    """What the environment variable `TF_CONFIG` says.

    Returns:
        (addresses, index): "host:port" of all processes, the chief first; this one's place there.

    Raises:
        InputError: there is none, or it is not what TensorFlow understands.
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


class ReadOnlyRun(RunDirectory):
    """The run directory of a worker that is not the chief: nothing is written."""

    keeps_files = False

    def create(self, model_config, training_config, data, *args, **kwargs):
        self.model_config, self.training_config, self.data = model_config, training_config, data

    def _do_nothing(self, *args, **kwargs):
        pass

    check_free = lock = save_config = save_best = save_last = _do_nothing
    write_history = write_metrics = _do_nothing
