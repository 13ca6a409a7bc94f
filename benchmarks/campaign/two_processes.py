"""Two processes on one run: one gives way, or both are right."""

import random

import kills
import made
import runs
from tally import Outcome

OVERWRITE = "--overwrite"


def trials(count):
    """Yields (function, arguments) of `count` pairs of processes."""
    scenarios = (
        two_trainings,
        two_resumes,
        export_and_overwrite,
        generate_and_overwrite,
        two_exports,
    )
    for i in range(count):
        yield scenarios[i % len(scenarios)], (i,)


def two_trainings(base, path, seed):
    """One trains; another replaces its run."""
    outcome = Outcome("training, and another with --overwrite")
    first, second = made.commands(base)["trained"][1], made.commands(base)["other"][1]
    _run_both(outcome, base, path, seed, first, [*second, OVERWRITE])
    _check_whole_run(outcome, base, path)
    return outcome


def two_resumes(base, path, seed):
    outcome = Outcome("two that resume")
    made.copy(base, "stopped", path)
    _run_both(outcome, base, path, seed, kills.RESUME, kills.RESUME)
    kills.check_run(outcome, path / "run", base / "trained" / "run")
    return outcome


def export_and_overwrite(base, path, seed):
    outcome = Outcome("export, and a training with --overwrite")
    made.copy(base, "trained", path)
    overwrite = [*made.commands(base)["other"][1], OVERWRITE]
    _run_both(outcome, base, path, seed, made.EXPORT, overwrite, name="exported")
    which = _check_whole_run(outcome, base, path)
    right = base / {"trained": "exported", "other": "exported-other"}[which] / "run" / "export"
    if (path / "run" / "export").exists():
        kills.check_exports(outcome, path / "run" / "export", right, complete=False)
    return outcome


def generate_and_overwrite(base, path, seed):
    outcome = Outcome("generate, and a training with --overwrite")
    made.copy(base, "trained", path)
    overwrite = [*made.commands(base)["other"][1], "--eval-every", runs.STEPS, OVERWRITE]
    _, generate = _run_both(outcome, base, path, seed, overwrite, made.SAY)
    said, right = generate.output, [made.said_by(base, name) for name in ("said", "said-other")]
    if generate.code == 0:
        outcome.expect(said in right, f"said {said!r}, expected one of {right}")
    _check_whole_run(outcome, base, path, history=False)  # it evaluates once
    return outcome


def two_exports(base, path, seed):
    outcome = Outcome("two exports")
    made.copy(base, "trained", path)
    _run_both(outcome, base, path, seed, made.EXPORT, made.EXPORT, name="exported")
    right = base / "exported" / "run" / "export"
    kills.check_exports(outcome, path / "run" / "export", right)
    return outcome


def _run_both(outcome, base, path, seed, first, second, name="trained"):
    """Starts a command, and another at a random moment of it; returns both processes.

    Args:
        name: of what `made` makes as the first does, which says how long that takes.
    """
    delay = random.Random(f"two {seed}").uniform(0, made.seconds_of(base, name)["end"])
    processes = [made.start(path, first)]
    processes[0].wait_for_seconds(delay)
    processes.append(made.start(path, second))
    for process in processes:
        outcome.ended(process.wait(), (0, 1, 2))
    outcome.expect(0 in [process.code for process in processes], "both refused")
    kills.check_partial(outcome, path)
    return processes


def _check_whole_run(outcome, base, path, history=True):
    """A run is all of one training or all of the other; returns which."""
    sha256 = runs.text_sha256(path / "run")
    is_first = sha256 == runs.text_sha256(base / "trained" / "run")
    which = "trained" if is_first else "other"
    right = base / which / "run"
    kills.check_run(outcome, path / "run", right, history)
    same = [(run / "tokenizer.json").read_bytes() for run in (path / "run", right)]
    outcome.expect(same[0] == same[1], f"tokenizer.json is not that of {which}")
    return which


SCENARIOS = (
    two_trainings,
    two_resumes,
    export_and_overwrite,
    generate_and_overwrite,
    two_exports,
)
