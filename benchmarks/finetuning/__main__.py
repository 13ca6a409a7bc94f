"""LoRA on 200 conversations of ten made-up facts: neo_keras beside Hugging Face's peft.

Needs the packages of requirements.txt and requirements-peers.txt.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import rich
from rich.table import Table

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))  # so that it runs uninstalled

import facts

from neo_keras.atomic_files import write_json
from neo_keras.errors import FailedError, one_line_errors
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.chat import encode_conversation

OURS, PEER = "neo_keras", "peft"
PRECISIONS = ("float32", "bfloat16")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", metavar="FOLDER", help="weights with a chat template, as a folder of transformers")
    add("--out", metavar="DIRECTORY", help="keep the runs here [thrown away]")
    add("--epochs", type=int, default=6, metavar="N", help="[%(default)s]")
    add("--rank", type=int, default=16, metavar="N", help="[%(default)s]")
    add("--learning-rate", type=float, default=1e-3, metavar="X", help="[%(default)s]")
    add("--seq-len", type=int, default=256, metavar="N", help="of our rows [%(default)s]")
    add("--batch-size", type=int, default=2, metavar="N", help="rows in ours [%(default)s]")
    add("--conversations", type=int, default=8, metavar="N", help="in theirs [%(default)s]")
    add("--precisions", nargs="+", default=["float32"], choices=PRECISIONS, help="[%(default)s]")
    add("--rounds", type=int, default=3, metavar="N", help="[%(default)s]")
    add("--json", metavar="FILE", help="also write all measurements here")
    return parser.parse_args()


def main(args):
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(args.out or directory)
        out.mkdir(exist_ok=True)
        facts.write(out / "facts.jsonl")
        rows = [
            {"round": i, "engine": engine, "precision": precision, **measure(args, precision, out)}
            for i in range(args.rounds)  # in turn, so that a slow minute of the machine hits all
            for precision in args.precisions
            for engine, measure in ((OURS, train_ours), (PEER, train_theirs))
        ]
        print_table(rows)
    if args.json:
        write_json(args.json, rows)


def train_ours(args, precision, out):
    path = out / f"run-{precision}"
    _, memory = run(
        ROOT / "train.py", "--from", args.model, "--data", out / "facts.jsonl", "--run", path,
        "--lora", args.rank, "--epochs", args.epochs, "--learning-rate", args.learning_rate,
        "--seq-len", args.seq_len, "--batch-size", args.batch_size, "--patience", 0,
        "--eval-every", 10_000, "--sample-every", 0,
        "--mixed-precision", precision, "--overwrite",
    )  # fmt: skip
    opened = RunDirectory.open(path)
    metrics, tokenizer = opened.read_metrics(), opened.load_tokenizer()
    seconds = metrics["train_seconds"] + metrics["compile_seconds"]
    lengths = [
        sum(len(ids) for ids, _ in encode_conversation(tokenizer, row["messages"]))
        for row in facts.conversations()
    ]
    trained = 0.9 * sum(lengths) * args.epochs  # the rest is validated on
    return {"seconds": seconds, "tokens_per_second": trained / seconds, "memory_mb": memory}


def train_theirs(args, precision, out):
    output, memory = run(
        HERE / "hugging_face.py", args.model, "--epochs", args.epochs, "--rank", args.rank,
        "--learning-rate", args.learning_rate, "--batch-size", args.conversations,
        *["--bfloat16"] * (precision == "bfloat16"),
    )  # fmt: skip
    return {**json.loads(output.splitlines()[-1]), "memory_mb": memory}


def run(script, *arguments):
    """(what a script prints, its peak memory in MB)."""
    command = [sys.executable, script, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise FailedError(f"{script} ended with exit code {status >> 8}")
    return output, usage.ru_maxrss / 1000


def print_table(rows):
    table = Table("", "seconds, median", "min", "max", "tokens/s", f"{OURS}/it", "peak MB")
    for precision in dict.fromkeys(row["precision"] for row in rows):
        measured = {
            name: [row for row in rows if (row["engine"], row["precision"]) == (name, precision)]
            for name in (OURS, PEER)
        }
        ours = [row["tokens_per_second"] for row in measured[OURS]]
        for name, own in measured.items():
            seconds = [row["seconds"] for row in own]
            speeds = [row["tokens_per_second"] for row in own]
            ratio = statistics.median(a / b for a, b in zip(ours, speeds))
            memory = statistics.median(row["memory_mb"] for row in own)
            spread = [f"{f(seconds):.0f}" for f in (statistics.median, min, max)]
            speed = f"{statistics.median(speeds):.0f}"
            cells = [*spread, speed, f"{ratio:.2f}", f"{memory:.0f}"]
            table.add_row(f"{name}, {precision}", *cells)
    rich.print(table)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
