"""SIGKILL at a random moment, then a start that goes on."""

import dataclasses
import os
import random
import shutil

import made
import runs
from tally import Outcome

DAY = 86_400
RESUME = ["train.py", "--run", "run", "--resume"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """What is killed.

    Attributes:
        name: what it does.
        right: what it makes if nothing disturbs it.
        begin: what it begins from, or None.
        marks: the lines between which it is killed; None: the beginning or the end.
    """

    name: str
    right: str
    begin: str | None = None
    marks: tuple = (None, None)

    def command(self, base):
        if self.begin == "stopped":
            return RESUME
        return made.commands(base)[self.right][1]


STAGES = (
    Stage("training", "trained"),
    Stage("resuming", "trained", "stopped"),
    Stage("tokenizing", "tokenized", marks=(None, made.TOKENIZED)),
    Stage("exporting", "exported", "trained"),
    Stage("training the drafter", "drafted", marks=(made.DRAFTER, None)),
)


def trials(count):
    """Yields (function, arguments) of `count` kills."""
    for i in range(count):
        yield trial, (STAGES[i % len(STAGES)], i)


def trial(base, path, stage, seed):
    """Kills a process, starts the next, and compares."""
    outcome = Outcome(f"SIGKILL while {stage.name}")
    _kill(base, path, stage, random.Random(f"kill {seed}"))
    if stage.right == "exported":
        made_here, right = (p / "run" / "export" for p in (path, base / stage.right))
        check_exports(outcome, made_here, right, complete=False)
    _age(path / "cache")
    go_on(outcome, path, stage.command(base), runs.step_of(path / "run"))
    check_all(outcome, base, path, stage)
    return outcome


def _kill(base, path, stage, rng):
    """Starts a process and kills it; what had ended before is done again, and killed earlier."""
    begin, end = stage.marks
    seconds = made.seconds_of(base, stage.right)
    span = seconds[end or "end"] - seconds.get(begin, 0)
    while True:
        if stage.begin:
            made.copy(base, stage.begin, path)
        process = made.start(path, stage.command(base))
        if begin:
            process.wait_for(begin)
        if process.kill_after(rng.uniform(0, span)):
            return
        span *= 0.8
        for name in ("run", "cache"):
            shutil.rmtree(path / name, ignore_errors=True)


def _age(directory):
    """Makes what was left in the cache a day older: from then on it may be removed."""
    for path in map(str, runs.partial_files(directory)):
        os.utime(path, (0, os.stat(path).st_mtime - 2 * DAY))


def go_on(outcome, path, command, step, **options):
    """The next start: of a run, what is there is resumed, else it begins anew.

    Args:
        path: where; it has the directory `run`.
        command: the command line that came to a bad end.
        step: of the last checkpoint that it left.
        options: of `made.start`.
    """
    if command[0] == "export.py":
        return outcome.ended(made.start(path, command, **options).wait())
    process = made.start(path, RESUME, **options).wait()
    if process.code == 2 and "already" in process.errors:
        return outcome.ended(process, (2,))  # nothing was left to do
    if process.code == 2 and step == 0:  # nothing was there to be lost
        outcome.ended(process, (2,))
        process = made.start(path, [*command, "--overwrite"], **options).wait()
    return outcome.ended(process)


def check_all(outcome, base, path, stage):
    """What is there in the end, compared with what nothing disturbed."""
    right = base / stage.right
    check_partial(outcome, path)
    if stage.right == "exported":
        check_exports(outcome, path / "run" / "export", right / "run" / "export")
    else:
        check_run(outcome, path / "run", right / "run")
    if stage.name == "tokenizing":
        tokens, expected = (runs.contents(p / "cache") for p in (path, right))
        outcome.expect(tokens == expected, f"token files: {tokens}, expected {expected}")


def check_partial(outcome, path):
    partial = runs.partial_files(path)
    outcome.expect(not partial, f"left behind: {partial}")


def check_run(outcome, run, right, history=True):
    """Compares a run with one that was not disturbed; and its `history`, if they are alike."""
    for name in ("last.keras", "best.keras"):
        path, expected = run / name, runs.numbers_of(right / name)
        same = path.exists() and runs.numbers_of(path) == expected
        outcome.expect(same, f"{path} is another")
    if history:
        losses, expected = runs.losses_of(run), runs.losses_of(right)
        outcome.expect(losses == expected, f"history: {losses}, expected {expected}")


def check_exports(outcome, export, right, complete=True):
    """Compares exported files with those that nothing disturbed.

    Args:
        complete: whether all must be there.
    """
    for expected in sorted(right.iterdir()):
        path = export / expected.name
        if not path.exists():
            outcome.expect(not complete, f"{path} is missing")
        elif expected.suffix in (".tflite", ".litertlm") or expected.name == "saved_model":
            same = runs.numbers_of(path) == runs.numbers_of(expected)
            outcome.expect(same, f"{path} is another")
