"""How soon generate.py writes with a .tflite file, and how fast LiteRT goes on."""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import time

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.atomic_files import write_json
from neo_keras.errors import InputError, one_line_errors
from neo_keras.generation import artifact
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import tflite_engine
from neo_keras.generation.sampler import Sampler

GENERATE = pathlib.Path(__file__).parents[1] / "generate.py"
PROMPT = "ROMEO:"
THREADS = (1, 2)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", metavar="MODEL", help=".tflite file that export.py wrote")
    add("--runs", type=int, default=5, help="of each measurement [%(default)s]")
    add("--max-tokens", type=int, default=1000, help="to write in a run [%(default)s]")
    add("--json", metavar="FILE", help="also write all measurements here")
    return parser.parse_args()


def measure(args):
    if args.runs < 1 or args.max_tokens < 2:
        raise InputError(
            f"runs must be at least 1 and max-tokens 2, got {args.runs} and {args.max_tokens}"
        )
    if not pathlib.Path(args.model).is_file():
        raise InputError(f"no file at {args.model}: give a .tflite file that export.py wrote")
    model_config, tokenizer = artifact.unpack_tflite(args.model)
    engines = {n: tflite_engine(args.model, model_config, n) for n in THREADS}

    rows = []
    for _ in range(args.runs):  # in turn, so that a slow minute of the machine hits all figures
        rows.append(time_process(args.model, args.max_tokens))
        for n, engine in engines.items():
            rows[-1][f"tokens/s, num_threads={n}"] = time_engine(engine, tokenizer, args.max_tokens)
    print_table(rows)
    if args.json:
        write_json(args.json, {"max_tokens": args.max_tokens, "runs": rows})


def time_process(model, max_tokens):
    """Starts generate.py anew, and times what a person sees: imports, loading, writing."""
    command = [sys.executable, GENERATE, model, "--prompt", PROMPT, "--seed", "1"]
    command += ["--max-tokens", str(max_tokens)]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        num_bytes, seconds = 0, {}
        while chunk := os.read(process.stdout.fileno(), 4096):  # as soon as there is something
            num_bytes += len(chunk)
            seconds.setdefault("prompt, s", time.perf_counter() - begin)
            if num_bytes > len(PROMPT):
                seconds.setdefault("first character, s", time.perf_counter() - begin)
    if process.returncode:
        sys.exit(process.returncode)  # it said why
    return {**seconds, "all, s": time.perf_counter() - begin}


def time_engine(engine, tokenizer, max_tokens):
    """Tokens per second of `generate_text`, prompt and refilled windows included."""
    begin = time.perf_counter()
    "".join(generate_text(engine, tokenizer, PROMPT, max_tokens, Sampler(0.8), seed=1))
    return max_tokens / (time.perf_counter() - begin)


def print_table(rows):
    table = Table("figure", "median", "min", "max")
    for name in rows[0]:
        values = [row[name] for row in rows]
        digits = 3 if name.endswith(", s") else 0
        numbers = [f"{f(values):,.{digits}f}" for f in (statistics.median, min, max)]
        table.add_row(name, *numbers)
    rich.print(table)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        measure(arguments)
