"""Decoding speed on the CPU, the same weights in every engine: neo_keras against its peers."""

import argparse
import importlib.util
import pathlib
import statistics
import sys
import tempfile

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # so that it runs uninstalled

import decoders
import gpt2_weights
import workers
from model_files import PROMPT_LEN

from neo_keras.atomic_files import write_json
from neo_keras.errors import FailedError, InputError, one_line_errors
from neo_keras.run_directory.directory import RunDirectory

OURS, PEER = "neo_keras", "llama.cpp"
SPECULATIVE = ("speculative", "speculative-sampled")  # with its drafter, in a trained model
NUM_TOKENS = {"small": 100, "10.7m": 200, "124m": 200}
LONG_CONTEXT = 1024
NEAR_TIE = 0.02  # of logits whose standard deviation is 1: llama.cpp's GELU is a float16 table
BYTES = {"float32": 4, "8 bits": 1}  # of a weight, at least


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--size", choices=gpt2_weights.SIZES, default="10.7m", help="of the model [%(default)s]")
    add("--run", metavar="RUN", help="take the weights of a run of GPT-2's shape, with a trained "
        "drafter, instead of random ones of a --size")  # fmt: skip
    add("--engines", nargs="+", choices=decoders.FAMILIES, metavar="ENGINE",
        help=f"some of {', '.join(decoders.FAMILIES)} [all; {' and '.join(SPECULATIVE)} with "
        "--run]")  # fmt: skip
    add("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="to compute with [1 2]")
    add("--runs", type=int, default=5, help="rounds; each times every engine [%(default)s]")
    add("--tokens", type=int, metavar="N", help="timed in a run [200; small: 100]")
    add("--positions", action="store_true",
        help=f"instead: {OURS} and {PEER} in 8 bits, by position; and memory; 10.7m with a "
        "context of 1,024, or a --run that has one")  # fmt: skip
    add("--json", metavar="FILE", help="also write all measurements here")
    return parser.parse_args()


def main(args):
    if min(args.runs, *args.threads) < 1:
        raise InputError(f"runs and threads must be at least 1, got {args.runs}, {args.threads}")
    args.speculative = list(SPECULATIVE) if args.run else []
    args.engines = args.engines or [
        name for name in decoders.FAMILIES if name not in SPECULATIVE or args.run
    ]
    if not args.run and {*SPECULATIVE} & {*args.engines}:
        raise InputError(f"{' and '.join(SPECULATIVE)} need a trained drafter: give a --run")
    check_installed([OURS, PEER] if args.positions else args.engines)
    with tempfile.TemporaryDirectory() as directory:
        result = (measure_positions if args.positions else compare)(args, directory)
    if args.json:
        write_json(args.json, result)


def check_installed(engines):
    for engine in engines:
        for module, package in decoders.FAMILIES[engine][0].requires.items():
            if not importlib.util.find_spec(module):
                raise InputError(
                    f"{engine} needs the package {package}: pip install -r requirements.txt "
                    "-r benchmarks/requirements.txt, or choose others with --engines"
                )


def compare(args, directory):
    """Times each engine with each number of threads, in turn."""
    num_tokens = NUM_TOKENS[args.size] if args.tokens is None else args.tokens
    name = args.run or args.size
    config = model_config(args.run, args.size)
    longest = config.max_seq_len - PROMPT_LEN - 1
    if not 2 <= num_tokens <= longest:
        raise InputError(f"tokens must be from 2 to {longest} for {name}, got {num_tokens}")
    engines = [(name, p) for name in args.engines for p in decoders.FAMILIES[name][1]]
    print(f"writing the files of {name}", flush=True)
    workers.run("write", directory=directory, size=args.size, max_seq_len=None, run=args.run,
                num_tokens=num_tokens + 1, engines=engines)  # fmt: skip
    rounds = []
    for i in range(args.runs):  # in turn, so that a slow minute of the machine hits all
        rounds.append([])
        for num_threads in args.threads:
            for engine, precision in engines:
                settings = {"engine": engine, "precision": precision, "num_threads": num_threads}
                row = workers.run("decode", directory=directory, num_tokens=num_tokens, **settings)
                rounds[-1].append({**settings, **row})
                check_text(rounds[-1][-1], num_tokens)
                print(f"round {i + 1}, threads: {num_threads}: {engine}, {precision}: "
                      f"{row['tokens_per_second']:,.1f} tokens/s", flush=True)  # fmt: skip
            if args.size == "124m" and not args.run:
                speed = workers.run("bandwidth", num_threads=num_threads)["bytes_per_second"]
                rounds[-1] += memory_limits(config, num_threads, speed)
    print_comparison(rounds, num_tokens)
    return {"size": args.size, "run": bool(args.run), "tokens": num_tokens, "rounds": rounds}


def model_config(run, size, max_seq_len=None):
    """`ModelConfig` of a run or, without one, of a size."""
    return (
        RunDirectory.open(run).model_config if run else gpt2_weights.model_config(size, max_seq_len)
    )


def check_text(row, num_tokens):
    """Raises `FailedError` where float32 text is not the reference's, near-ties aside."""
    if row["precision"] == "float32" and row["gap"] > NEAR_TIE:
        raise FailedError(
            f"{row['engine']} is wrong: of {num_tokens + 1} tokens the first {row['equal']} are "
            f"Keras's, and the next one has a logit {row['gap']:.3f} below the best"
        )


def memory_limits(config, num_threads, bytes_per_second):
    """Rows of what is possible at most, where every token reads every weight from memory."""
    block = 4 * config.hidden_dim**2 + 2 * config.hidden_dim * config.feed_forward_dim
    num_weights = config.num_layers * block + config.vocab_size * config.hidden_dim
    return [
        {"engine": "(memory)", "precision": precision, "num_threads": num_threads,
         "bytes_per_second": bytes_per_second,
         "tokens_per_second": bytes_per_second / (num_weights * num_bytes)}
        for precision, num_bytes in BYTES.items()
    ]  # fmt: skip


def print_comparison(rounds, num_tokens):
    """A table for each number of threads; ratios of ours to each, also with its drafter."""
    rows = rounds[0]
    speeds = [[row["tokens_per_second"] for row in same] for same in zip(*rounds)]
    kinds = [(row["num_threads"], row["precision"]) for row in rows]
    ours = {(row["engine"], kind): speeds[i] for i, (row, kind) in enumerate(zip(rows, kinds))}
    shown = [name for name in (OURS, *SPECULATIVE) if any(row["engine"] == name for row in rows)]
    for num_threads in dict.fromkeys(row["num_threads"] for row in rows):
        table = Table("weights", "engine", "median", "min", "max", *(f"{n}/it" for n in shown),
                      "text", title=f"tokens/s, threads: {num_threads}")  # fmt: skip
        for i in sorted(range(len(rows)), key=lambda i: rows[i]["precision"]):
            if rows[i]["num_threads"] != num_threads:
                continue
            ratios = [ratio(ours.get((name, kinds[i]), []), speeds[i]) for name in shown]
            equal = f"{rows[i]['equal']}/{num_tokens + 1}" if "equal" in rows[i] else "-"
            table.add_row(
                rows[i]["precision"], rows[i]["engine"], *spread(speeds[i]), *ratios, equal
            )
        rich.print(table)
    print("text: so many tokens are the float32 Keras model's, before the first that is not")


def ratio(speeds, others):
    """The median of what the rounds give; "-" of none."""
    ratios = [a / b for a, b in zip(speeds, others)]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def spread(speeds):
    """Median, least and most, to three digits or more."""
    values = [f(speeds) for f in (statistics.median, min, max)]
    return [f"{value:,.{0 if value >= 100 else 1}f}" for value in values]


def measure_positions(args, directory):
    """Speed where little and where much stands before, and memory after a long text."""
    settings = {"directory": directory, "precision": "8 bits", "num_threads": max(args.threads)}
    engines = [OURS, *args.speculative, PEER]
    if model_config(args.run, "10.7m", LONG_CONTEXT).max_seq_len < LONG_CONTEXT:
        raise InputError(
            f"{args.run} must have a context of {LONG_CONTEXT}: see stretch_context.py"
        )
    print("writing the files", flush=True)
    workers.run("write", directory=directory, size="10.7m", max_seq_len=LONG_CONTEXT, run=args.run,
                num_tokens=1, engines=[(e, settings["precision"]) for e in engines])  # fmt: skip
    rounds = []
    for i in range(args.runs):
        rounds.append({e: workers.run("positions", engine=e, **settings) for e in engines})
        print(f"round {i + 1}: {rounds[-1]}", flush=True)
    settings["engine"] = engines[-2]  # ours, speculative if it has a drafter
    memory = workers.run("endurance", num_tokens=10_000, **settings)
    print_positions(rounds, memory)
    return {"num_threads": settings["num_threads"], "rounds": rounds, "memory": memory}


def print_positions(rounds, memory):
    shown = [name for name in (OURS, *SPECULATIVE) if name in rounds[0]]
    table = Table("engine", "positions", "tokens/s, median", "min", "max",
                  *(f"{name}/it" for name in shown))  # fmt: skip
    for engine, ranges in rounds[0].items():
        for name in ranges:
            speeds = [results[engine][name] for results in rounds]
            ratios = [ratio([results[n][name] for results in rounds], speeds) for n in shown]
            table.add_row(engine, name, *spread(speeds), *ratios)
    rich.print(table)
    print(f"memory of {OURS}: {memory['MB before']:.1f} MB after 10,000 tokens, "
          f"{memory['MB after']:.1f} MB after 10,000 more")  # fmt: skip


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
