"""The four tokenizers on one text: bits per character after the same seconds of training."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import rich
from rich import box
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it runs uninstalled

from neo_keras.atomic_files import write_json
from neo_keras.errors import FailedError, one_line_errors
from neo_keras.text.tokenizer_models import KINDS

TRIAL_STEPS = 60  # to learn how long a step takes
SAMPLE_CHARS = 400


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add("--preset", default="shakespeare-cpu", metavar="NAME", help="[%(default)s]")
    add("--seconds", type=float, default=75, help="of training steps, in every run [%(default)s]")
    add("--seeds", type=int, default=3, metavar="N", help="runs of each [%(default)s]")
    add("--tokenizers", nargs="+", default=list(KINDS), metavar="KIND", help="[all]")
    add("--prompt", default="ROMEO:", metavar="TEXT", help="of the samples [%(default)s]")
    add("--json", metavar="FILE", help="also write all results here")
    return parser.parse_args()


def main(args):
    results, steps, samples = {name: [] for name in args.tokenizers}, {}, {}
    with tempfile.TemporaryDirectory() as directory:
        run = pathlib.Path(directory) / "run"
        for name in args.tokenizers:
            seconds = train(args, run, name, TRIAL_STEPS, seed=1)["train_seconds"]
            steps[name] = round(args.seconds / seconds * TRIAL_STEPS)
        for seed in range(1, args.seeds + 1):  # in turn: a slow minute of the machine hits all
            for name in args.tokenizers:
                results[name].append(train(args, run, name, steps[name], seed))
                bits = results[name][-1]["val_bits_per_char"]
                print(f"{name}: {bits:.3f} bits per character", flush=True)
                samples[name] = run_script("generate.py", run, "--prompt", args.prompt, "--seed", 1)
    print_table(results)
    for name, text in samples.items():
        print(f"\n--- {name} ---\n{text[:SAMPLE_CHARS]}")
    if args.json:
        write_json(args.json, {"results": results, "samples": samples})


def train(args, run, name, steps, seed):
    """Trains as a user does; returns what `metrics.json` says, and the size of the vocabulary."""
    run_script(
        "train.py", "--data", args.data, "--preset", args.preset, "--run", run, "--overwrite",
        "--tokenizer", name, "--steps", steps, "--eval-every", steps, "--sample-every", 0,
        "--seed", seed,
    )  # fmt: skip
    config = json.loads((run / "config.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    return {**metrics, "vocab_size": config["model"]["vocab_size"]}


def run_script(script, *arguments):
    """What it prints, as a user starts it."""
    command = [sys.executable, ROOT / script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        raise FailedError(f"{script} ended with exit code {done.returncode}")
    return done.stdout


def print_table(results):
    table = Table("", "tokens", "parameters", "steps", "s", "unknown", "bits/\nchar", "lowest",
                  "highest", box=box.SIMPLE)  # fmt: skip
    for name, runs in results.items():
        bits = [metrics["val_bits_per_char"] for metrics in runs]
        seconds = statistics.mean(metrics["train_seconds"] for metrics in runs)
        table.add_row(
            name, f"{runs[0]['vocab_size']:,}", f"{runs[0]['num_params']:,}",
            f"{runs[0]['step']:,}", f"{seconds:.0f}", f"{runs[0]['val_unknown_share']:.1%}",
            *(f"{f(bits):.3f}" for f in (statistics.mean, min, max)),
        )  # fmt: skip
    rich.print(table)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
