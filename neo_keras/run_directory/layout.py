"""Where a run is kept: whether it may be made there, and which process writes there."""

import contextlib
import errno
import os
import pathlib
import shutil
import warnings

from neo_keras.atomic_files import PARTIAL_PREFIX, parse_json, remove_partial
from neo_keras.errors import InputError

FORMAT = "neo_keras run 1"
LOCK, EXPORT_LOCK = ".lock", ".export.lock"
# What is there before it is a run, which it is with `config.json`: a killed process leaves no more.
FIRST_FILES = {"tokenizer.json", "tokenizer_config.json", "validation.txt", "validation.jsonl"}
FILES = {"config.json", "best.keras", "last.keras", "history.csv", "metrics.json", "loss.png",
         "samples.txt", *FIRST_FILES}  # fmt: skip
FOLDERS = {"logs", "export"}
# A file system without locks, such as a network drive, says one of these.
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}


class Place:
    """The directory of a run, of which nothing is known yet and which need not exist."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.export = self.path / "export"
        self.logs = self.path / "logs"  # for TensorBoard
        self.best = self.path / "best.keras"
        self.last = self.path / "last.keras"
        self._history_path = self.path / "history.csv"
        self._metrics_path = self.path / "metrics.json"
        self._config_path = self.path / "config.json"

    def read_config(self):
        """What `config.json` says in this moment; None if it is not a run's."""
        try:
            config = parse_json(self._config_path.read_text(encoding="utf-8"))
            return config if config["format"] == FORMAT else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def lock(self):
        """Keeps other processes from training here while this object lives, or `InputError`."""
        with self._writable():
            busy = f"{self.path} is in use by a training: wait for it, or choose another --run"
            self._lock = _hold(self.path / LOCK, busy)
            remove_partial(self.path, min_age=0)

    @contextlib.contextmanager
    def exporting(self):
        """Within the block no other process writes or clears `export`, or `InputError`."""
        try:
            busy = f"{self.export} is in use by an export: wait for it"
            lock = _hold(self.path / EXPORT_LOCK, busy)
        except OSError as error:
            raise InputError(
                f"cannot write to {self.export} ({error.strerror}): choose another --out"
            ) from None
        with lock:
            remove_partial(self.export, min_age=0)
            yield

    @contextlib.contextmanager
    def _writable(self):
        """Says in one line that the directory cannot be written; a full disk is another matter."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(
                f"cannot write the run directory {self.path} ({error.strerror}): choose another "
                "--run"
            ) from None

    def check_free(self, overwrite=False):
        """Raises `InputError` unless a new run may be made here."""
        with self._writable():
            self._check_writable()
            there = os.listdir(self.path) if self.path.exists() else []
        names = {name for name in there if not name.startswith(PARTIAL_PREFIX)}
        is_run, is_ours = self.read_config() is not None, LOCK in names
        names -= {LOCK, EXPORT_LOCK}
        if is_run and not overwrite:
            raise InputError(
                f"{self.path} already holds a run: continue it with --resume, replace it with "
                "--overwrite, or choose another --run"
            )
        if names and not is_run and not (is_ours and names <= FILES | FOLDERS):
            raise InputError(f"{self.path} holds files that are not a run's: choose another --run")
        if not (is_run or overwrite or names <= FIRST_FILES):
            raise InputError(
                f"{self.path} holds a run without its config.json: copy that back, replace the run "
                "with --overwrite, or choose another --run"
            )
        if is_ours:
            self.lock()

    def _clear(self):
        """Removes all that a run leaves, of which `config.json` makes it one."""
        for name in sorted(FILES, key="config.json".__ne__):
            (self.path / name).unlink(missing_ok=True)
        for path in filter(pathlib.Path.exists, (self.logs, self.export)):
            shutil.rmtree(path)

    def _check_writable(self):
        place = next(p for p in (self.path, *self.path.parents) if os.path.lexists(p))
        if not place.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(place, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def _hold(path, busy):
    """A context manager that holds the lock of a file; `InputError`(busy) where another does."""
    import filelock  # which a process that only generates does without

    path = os.path.realpath(path)
    # A singleton: who holds the lock twice in one process holds one lock.
    lock = filelock.FileLock(path, is_singleton=True, thread_local=False, fallback_to_soft=False)
    try:
        return lock.acquire(blocking=False)
    except filelock.Timeout:
        raise InputError(busy) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{os.path.dirname(path)} is on a file system without locks: let one process at a time "
            "write there",
            stacklevel=2,
        )
        return contextlib.nullcontext()
