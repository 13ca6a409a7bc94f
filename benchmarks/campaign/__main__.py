"""Kills, fills disks, damages files, and counts what is lost, in a table of five columns."""

import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # so that it runs uninstalled

import disks
import hostile
import kills
import made
import mutations
import runs
import two_processes
from processes import preload
from tally import Outcome, table

KINDS = {  # how to make the trials, and how many
    "kills": (kills.trials, 100),
    "disks": (disks.trials, 20),
    "mutations": (mutations.trials, 500),
    "two": (two_processes.trials, 50),
    "hostile": (hostile.trials, 1),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--kinds", nargs="+", choices=KINDS, metavar="KIND", default=list(KINDS),
        help=f"some of {', '.join(KINDS)} [all]")  # fmt: skip
    add("--share", type=float, metavar="X", default=1.0, help="of the trials [%(default)s]")
    add("--processes", type=int, metavar="N", default=os.cpu_count(),
        help="trials at the same time [the cores]")  # fmt: skip
    return parser.parse_args()


def main():
    args = parse_arguments()
    if "disks" in args.kinds and (reason := disks.reason_to_skip()):
        print(f"disks: skipped: {reason}")
        args.kinds.remove("disks")
    base = pathlib.Path(tempfile.mkdtemp(prefix="campaign-"))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    preload()
    runs.add_preset()
    made.write_texts(base)
    context = multiprocessing.get_context("fork")  # before TensorFlow has threads
    with concurrent.futures.ProcessPoolExecutor(args.processes, context) as pool:
        for has_begin in (False, True):
            names = [n for n, (begin, _) in made.commands(base).items() if bool(begin) == has_begin]
            list(pool.map(made.make, [base] * len(names), names))
        jobs = [
            (function, arguments)
            for kind in args.kinds
            for function, arguments in trials_of(kind, args.share)
        ]
        paths = [base / f"trial-{i:04}" for i in range(len(jobs))]
        outcomes = []
        for outcome in pool.map(run_trial, [base] * len(jobs), paths, jobs):
            outcomes.append(outcome)
            for column, what in outcome.faults:
                print(f"{outcome.kind}: {column}: {what}", flush=True)
    text, is_clean = table(outcomes)
    print(text)
    if is_clean:
        shutil.rmtree(base)
    else:
        print(f"what went wrong is kept in {base}")
    sys.exit(not is_clean)


def trials_of(kind, share):
    trials, count = KINDS[kind]
    return trials(max(round(count * share), 1))


def run_trial(base, path, job):
    """Runs a trial in a directory of its own, which stays if something went wrong."""
    function, arguments = job
    path.mkdir()
    begin = time.monotonic()
    try:
        outcome = function(base, path, *arguments)
    except Exception:  # a fault of the campaign's is not to end it
        outcome = Outcome(f"{function.__module__} {arguments}")
        outcome.fault("tracebacks", traceback.format_exc())
    if not outcome.faults:
        shutil.rmtree(path)
    outcome.seconds = time.monotonic() - begin
    return outcome


if __name__ == "__main__":
    main()
