"""Who takes part in a training on several machines. Imports no TensorFlow."""

import dataclasses
import os

from neo_keras.atomic_files import parse_json
from neo_keras.errors import InputError
from neo_keras.run_directory.directory import RunDirectory

EXAMPLE = (
    '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines of one training.

    Attributes:
        addresses: of all processes, "host:port"; the first one is the chief.
        index: of this process among them.
    """

    addresses: tuple
    index: int

    @property
    def is_chief(self):
        return self.index == 0


def read_cluster():
    """The cluster that the environment variable `TF_CONFIG` describes.

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
        jobs = {name: tuple(addresses) for name, addresses in cluster.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _mistake(f"got {text!r} ({type(error).__name__}: {error})") from None
    if not jobs or not jobs.keys() <= {"chief", "worker"} or len(jobs.get("chief", "1")) != 1:
        raise _mistake(f"got the jobs {sorted(jobs)}; only workers and one chief train here")
    if not 0 <= index < len(jobs.get(job, ())):
        raise _mistake(f"got the task {job} {index}, which is not in the cluster")
    addresses = jobs.get("chief", ()) + jobs.get("worker", ())
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdecimal():
            raise _mistake(f"got the address {address!r}, which is not host:port")
    if len(set(addresses)) < len(addresses):
        raise _mistake("got an address twice")
    return Cluster(addresses, index + (len(jobs.get("chief", ())) if job == "worker" else 0))


def _mistake(what):
    return InputError(
        f"--strategy multi-worker needs the environment variable TF_CONFIG, such as {EXAMPLE}: "
        f"{what} (docs/distributed.md)"
    )


class ReadOnlyRun(RunDirectory):
    """The run directory as workers other than the chief see it: all that it writes, they do not."""

    keeps_files = False

    def create(self, model_config, training_config, data, *args, **kwargs):
        self.model_config, self.training_config, self.data = model_config, training_config, data

    def _leave_to_chief(self, *args, **kwargs):
        """Does nothing."""

    check_free = lock = save_config = save_best = save_last = _leave_to_chief
    write_history = write_metrics = _leave_to_chief
