"""A disk that becomes full at some moment, and then has room again."""

import contextlib
import os
import subprocess

import kills
import made
import runs
from tally import Outcome

POINTS = 5  # of each stage
DISK_BYTES = 2**27
STAGES = (
    kills.Stage("training", "trained"),
    kills.Stage("resuming", "trained", "stopped"),
    kills.Stage("tokenizing", "tokenized"),
    kills.Stage("exporting", "exported", "exported"),
)


def trials(count):
    """Yields (function, arguments) of `count` full disks."""
    for i in range(count):
        point = (i // len(STAGES) % POINTS + 0.5) / POINTS
        yield trial, (STAGES[i % len(STAGES)], point)


def reason_to_skip():
    """Why there can be no such trial here, or None."""
    done = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        return f"no small disk can be mounted ({done.stderr.strip()}): run it as root"
    return None


def trial(base, path, stage, point):
    """Runs a stage on a disk that has room for `point` of what it writes, then on with room."""
    outcome = Outcome(f"full disk while {stage.name}")
    disk, room = path / "disk", point * _bytes_needed(base, stage)
    disk.mkdir()
    while True:
        with _mounted(disk):
            if stage.begin:
                made.copy(base, stage.begin, disk)
            _fill(disk, room)
            process = made.start(disk, stage.command(base), logs=path).wait()
            if process.code == 0:  # there was room for all
                room *= 0.7
                continue
            outcome.ended(process, (1,))
            _check_what_stood(outcome, base, disk, stage)
            (disk / "filler").unlink()
            before = runs.step_of(disk / "run")
            kills.go_on(outcome, disk, stage.command(base), before, logs=path)
            kills.check_all(outcome, base, disk, stage)
            return outcome


def _check_what_stood(outcome, base, disk, stage):
    """Nothing is left half written, and what was there is there."""
    kills.check_partial(outcome, disk)
    run, right = disk / "run", base / stage.right / "run"
    if stage.name == "exporting":
        kills.check_exports(outcome, run / "export", right / "export")
    if stage.name == "resuming":
        step = runs.step_of(base / "stopped" / "run")
        outcome.expect(runs.step_of(run) >= step, f"{run}/last.keras is at an earlier step")
        outcome.expect(runs.numbers_of(run / "best.keras"), f"{run}/best.keras is damaged")


def _bytes_needed(base, stage):
    """Of what an undisturbed stage writes: less than it takes while it writes it."""
    size = _size_of(base / stage.right)
    return size / 2 if stage.begin else size


def _size_of(directory):
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


@contextlib.contextmanager
def _mounted(directory):
    options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs"]
    subprocess.run(["mount", *options, str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def _fill(directory, room):
    """Leaves `room` bytes."""
    disk = os.statvfs(directory)
    with open(directory / "filler", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, int(disk.f_bavail * disk.f_frsize - room))
