"""Damaged files, opened by what opens them for a person."""

import dataclasses
import functools
import json
import time
from collections.abc import Callable

import damage
import openers
from processes import CAMPAIGNS_OWN, TRACEBACK, Process
from tally import Outcome, is_one_line

BATCH = 50  # files that one process opens, one after another
LIMIT = 600  # seconds for one of them; only a hang takes so long
MEMORY = 2**33
SAY = ("generate.py", "{}", "--greedy", "--max-tokens", "6", "--prompt", "the ")
RESUME = ("train.py", "--run", "{}", "--resume")


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        kind: its name.
        source: what is copied for a trial, in what `made` makes.
        files: glob of those of which one is damaged, where it is a directory.
        commands: what opens it, in turn; "{}" is the copy.
        change: how to change a JSON text in it, or None: bytes are changed, and `.json` files.
        guarded: whether a hash or checksum tells what is not the file that was written.
    """

    kind: str
    source: str
    files: str
    commands: tuple
    change: Callable | None = None
    guarded: bool = False


RUN = "trained/run"
TARGETS = (
    Target(".tflite", "exported/run/export/model-int8.tflite", "-", (SAY,), damage.damage_member,
           guarded=True),
    Target(".litertlm", "exported/run/export/model-int8.litertlm", "-", (SAY,)),
    Target("best.keras", RUN, "best.keras", (SAY,), damage.damage_member, guarded=True),
    Target("last.keras", "stopped/run", "last.keras", (RESUME,), damage.damage_member),
    Target("config.json", "stopped/run", "config.json", (SAY, RESUME), damage.damage_json),
    Target("tokenizer.json", RUN, "tokenizer.json", (SAY, ("tokenizer", "{}/tokenizer.json")),
           damage.damage_json),
    Target("history.csv", "stopped/run", "history.csv", (RESUME,)),
    Target("SavedModel", "exported/run/export/saved_model", "**/*", (SAY,)),
    Target("pairs.tsv", "pairs.tsv", "-", (("pairs", "{}"),)),
    Target("pairs.jsonl", "pairs.jsonl", "-", (("pairs", "{}"),)),
)  # fmt: skip


def trials(count):
    """Yields (function, arguments) of `count` damaged files of each kind."""
    for target in TARGETS:
        share = count // 2 if target.kind.startswith("pairs") else count
        for begin in range(0, share, BATCH):
            yield trial, (target.kind, begin, min(begin + BATCH, share))


def trial(base, path, kind, begin, end):
    """Opens files that are damaged by the seeds from `begin` to `end`, in a process or more."""
    target = next(target for target in TARGETS if target.kind == kind)
    outcome = Outcome(f"damaged {kind}", end - begin)
    results = path / "results"
    results.touch()
    while begin < end:
        open_all = functools.partial(openers.open_all, base, path, target, begin, end)
        process = Process(path, ["open", kind], memory=MEMORY, body=open_all)
        _watch(process, results)
        if process.code == CAMPAIGNS_OWN:
            raise RuntimeError(process.errors)
        lines = results.read_text().splitlines()
        for line in lines:
            _judge(outcome, target, json.loads(line))
        begin += len(lines)
        if begin < end:
            column = "hung" if process.hung else "crashed"
            outcome.fault(column, f"seed {begin}: {process.code}: {process.errors[-1500:]}")
            begin += 1
    return outcome


def _watch(process, results):
    """Waits for the process; kills it when there is no new line in `results` for too long."""
    size, seen = 0, time.monotonic()
    while not process.wait_for_seconds(0.1):
        if results.stat().st_size != size:
            size, seen = results.stat().st_size, time.monotonic()
        elif time.monotonic() > seen + LIMIT:
            process.hung = True
            process.kill()


def _judge(outcome, target, result):
    said = result["err"][-900:] or result["out"]
    what = f"{target.kind}, seed {result['seed']}: exit code {result['code']}: {said}"
    if TRACEBACK in result["err"]:
        outcome.fault("tracebacks", what)
    elif result["code"] in (1, 2):
        outcome.refused += 1
        outcome.expect(is_one_line(result["err"]), f"not one line: {what}", "tracebacks")
    elif result["code"]:
        outcome.fault("crashed", what)
    elif target.guarded and not result["is_json"]:
        outcome.expect(result["is_right"], f"opened, and says something else: {what}")
