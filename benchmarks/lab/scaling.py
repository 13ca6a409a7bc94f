"""What a step of training costs as the model, the context and the batch grow."""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import rich
import tokenizer_memory
from rich.table import Table

BENCHMARKS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS.parent)]  # so that it runs uninstalled

from memory import memory_mb

from neo_keras.atomic_files import write_json
from neo_keras.errors import FailedError, one_line_errors
from neo_keras.native_logs import import_tensorflow

BASE = {"num_heads": 2, "hidden_dim": 128, "max_seq_len": 128, "batch_size": 16, "max_ngram": 1,
        "jit_compile": False, "mixed_precision": "bfloat16"}  # fmt: skip
# What grows. Heads stay 64 wide; longer contexts come in fewer rows.
SERIES = {
    "width": [{"hidden_dim": w, "num_heads": w // 64} for w in (64, 128, 256, 384, 512)],
    "context": [{"max_seq_len": s, "batch_size": 2048 // s} for s in (64, 128, 256, 512, 1024)],
    "batch": [{"batch_size": b} for b in (2, 4, 8, 16, 32)],
}
TEXT_BYTES = 200_000


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--json", metavar="FILE", help="also write all measurements here")
    add("--steps", type=int, default=50, metavar="N", help="of each run [%(default)s]")
    add("--measure", nargs=2, help=argparse.SUPPRESS)  # one run, in this process
    return parser.parse_args()


def compare(args):
    table = Table("grows", "width", "context", "batch", "ms a step", "tokens/s", "peak MB")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tokenizer_memory.write_text(pathlib.Path(folder) / "text.txt", TEXT_BYTES)
        for series, points in SERIES.items():
            for point in points:
                shape = {**BASE, **point}
                row = measure_in_subprocess({**shape, "steps": args.steps}, folder)
                rows.append({"grows": series, **shape, **row})
                print(rows[-1], flush=True)
                sizes = (shape[name] for name in ("hidden_dim", "max_seq_len", "batch_size"))
                table.add_row(
                    series, *map(str, sizes), f"{1000 * row['seconds']:.0f}",
                    f"{row['tokens_per_second']:,}", f"{row['peak_mb']:,.0f}",
                )  # fmt: skip
    rich.print(table)
    if args.json:
        write_json(args.json, rows)


def measure_in_subprocess(changes, folder):
    """Measures in a process of its own, for its peak of memory."""
    command = [sys.executable, __file__, "--measure", json.dumps(changes), folder]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode:
        raise FailedError(f"{changes} ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(changes, folder):
    """Trains as `train.py` does, and prints what a step took.

    Args:
        changes: JSON of fields of the configurations.
        folder: with `text.txt`.
    """
    import_tensorflow()
    from neo_keras.training import trainer
    from neo_keras.training.start import start_run

    changes, folder = json.loads(changes), pathlib.Path(folder)
    run, corpus = start_run(
        folder / "run", [str(folder / "text.txt")], overwrite=True, sample_every=0,
        steps_per_execution=5, **changes,
    )  # fmt: skip
    metrics, _ = trainer.train(run, corpus)
    tokens_per_step = changes["batch_size"] * changes["max_seq_len"]
    result = {
        "seconds": tokens_per_step / metrics["tokens_per_second"],
        "tokens_per_second": metrics["tokens_per_second"],
        "peak_mb": memory_mb("VmHWM"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        measure(*arguments.measure) if arguments.measure else compare(arguments)
