"""Seconds of training to nanoGPT's loss, and the loss in nanoGPT's seconds, on two CPU cores."""

import argparse
import csv
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import rich
from rich.table import Table

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that it runs uninstalled

from neo_keras.atomic_files import write_json
from neo_keras.errors import one_line_errors
from neo_keras.presets import from_preset
from neo_keras.text.corpus import load_corpus, split_corpus
from neo_keras.text.tokenizer import Tokenizer

NANOGPT_LOSS = 1.898  # of nanoGPT's own checkpoint, after its 2,000 steps, on the whole split
NANOGPT_GPU_LOSS = 1.4697  # its README's best, of 10.7M parameters on an A100
PEER_EVAL_EVERY = 250

# (name, what train.py is told, steps between two evaluations)
RUNS = (
    ("shakespeare-cpu --steps 100", ["--preset", "shakespeare-cpu", "--steps", "100"], 10),
    ("shakespeare-cpu", ["--preset", "shakespeare-cpu"], 100),
)
LONG_RUN = ("shakespeare-cpu-long", ["--preset", "shakespeare-cpu-long"], 500)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="tiny Shakespeare, or any text")
    add("--steps", type=int, metavar="N", help="only shakespeare-cpu, with so many steps")
    add("--seeds", type=int, default=3, metavar="N", help="runs of each kind [%(default)s]")
    add("--long", action="store_true", help="only shakespeare-cpu-long: half an hour a seed")
    add("--json", metavar="FILE", help="also write all curves here, or add to those there")
    add("--plot", metavar="PNG", help="draw what --json holds")
    add("--peer-seed", type=int, help=argparse.SUPPRESS)  # one run of the peer, in this process
    return parser.parse_args()


def compare(args):
    runs = (LONG_RUN,) if args.long else RUNS
    if args.steps:
        options = ["--preset", "shakespeare-cpu", "--steps", str(args.steps)]
        runs = ((" ".join(options[1:]), options, max(args.steps // 20, 1)),)
    curves = json.loads(pathlib.Path(args.json).read_text()) if has(args.json) else {}
    for name in [name for name, *_ in runs] + ([] if args.long else ["torch.nn"]):
        curves[name] = []
    for seed in range(1, args.seeds + 1):  # in turn, so that a slow minute of the machine hits all
        for name, options, eval_every in runs:
            curves[name].append(run_train_py(args.data, options, eval_every, seed))
            report(name, curves[name][-1])
        if not args.long:
            curves["torch.nn"].append(run_peer(args.data, seed))
            report("torch.nn", curves["torch.nn"][-1])
        if args.json:
            write_json(args.json, curves)
    print_tables(curves)
    if curves.get("torch.nn"):
        print_ratios(curves)
    if args.plot:
        plot(curves, args.plot)


def has(path):
    return path is not None and pathlib.Path(path).exists()


def run_train_py(data, options, eval_every, seed):
    """A run as a user starts it; its curve is in the run directory."""
    with tempfile.TemporaryDirectory() as directory:
        run = pathlib.Path(directory) / "run"
        command = [sys.executable, str(ROOT / "train.py"), *options, "--data", data]
        command += ["--run", str(run), "--seed", str(seed), "--sample-every", "0"]
        begin = time.perf_counter()
        subprocess.run(
            [*command, "--eval-every", str(eval_every)], check=True, stdout=subprocess.DEVNULL
        )
        process_seconds = time.perf_counter() - begin
        metrics = json.loads((run / "metrics.json").read_text())
        with open(run / "history.csv", newline="") as file:
            rows = [(float(r["train_seconds"]), float(r["val_loss"])) for r in csv.DictReader(file)]
    return {
        "compile_seconds": metrics["compile_seconds"],
        "process_seconds": process_seconds,
        "curve": [row for row in rows if row[0]],  # the time of the first call is its compilation
    }


def run_peer(data, seed):
    command = [sys.executable, __file__, "--data", data, "--peer-seed", str(seed)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def train_peer(args):
    """nanoGPT's README configuration in plain PyTorch; its evaluations are not timed."""
    import peers

    text = load_corpus([args.data])
    tokenizer = Tokenizer.characters_of(text)
    train_ids, validation_ids = (tokenizer.encode(part) for part in split_corpus(text))
    model_config, config = from_preset("nanogpt-cpu", tokenizer.vocab_size, seed=args.peer_seed)
    trainer = peers.Trainer(peers.make_plain_model, train_ids, model_config, config)
    seconds, curve = 0.0, []
    while trainer.step < config.steps:
        begin = time.perf_counter()
        trainer.train(PEER_EVAL_EVERY)
        seconds += time.perf_counter() - begin
        curve.append((seconds, trainer.evaluate(validation_ids)))
    print(json.dumps({"compile_seconds": 0.0, "curve": curve}))


def report(name, result):
    seconds, loss = result["curve"][-1]
    print(f"{name}: {loss:.4f} after {seconds:.1f} s", flush=True)


def seconds_to(target, curve):
    """When a curve first reaches a loss, or None."""
    return next((seconds for seconds, loss in curve if loss <= target), None)


def print_tables(curves):
    table = Table("run", f"s to {NANOGPT_LOSS}", "with compilation", f"s to {NANOGPT_GPU_LOSS}",
                  "s in all", "loss at the end")  # fmt: skip
    for name, results in curves.items():
        ends = [result["curve"][-1] for result in results]
        reached = [seconds_to(NANOGPT_LOSS, result["curve"]) for result in results]
        with_compilation = [
            seconds and seconds + result["compile_seconds"]
            for seconds, result in zip(reached, results)
        ]
        gpu = [seconds_to(NANOGPT_GPU_LOSS, result["curve"]) for result in results]
        table.add_row(
            name, spread(reached, ".1f"), spread(with_compilation, ".1f"), spread(gpu, ".0f"),
            spread([seconds for seconds, _ in ends], ".1f"),
            spread([loss for _, loss in ends], ".4f"),
        )  # fmt: skip
    rich.print(table)


def print_ratios(curves):
    """Each of our runs beside the peer's, by the mean over the seeds."""
    peers = curves["torch.nn"]
    seconds, loss = (statistics.mean(values) for values in zip(*(p["curve"][-1] for p in peers)))
    for name, results in curves.items():
        if name == "torch.nn":
            continue
        ours = [seconds_to(loss, result["curve"]) for result in results]
        if None in ours:
            print(f"{name}: does not reach the peer's loss of {loss:.4f}")
            continue
        share = statistics.mean(ours) / seconds
        end = min(curve["curve"][-1][0] for curve in [*results, *peers])
        at_end = [
            statistics.mean(loss_at(end, run["curve"]) for run in runs) for runs in (results, peers)
        ]
        print(
            f"{name}: the peer's loss of {loss:.4f} after {statistics.mean(ours):.1f} s, the peer "
            f"after {seconds:.1f} s: {share:.3f} of its time; after {end:.0f} s a loss of "
            f"{at_end[0]:.4f}, the peer {at_end[1]:.4f}"
        )


def loss_at(seconds, curve):
    """The last loss that a curve has by then."""
    return [loss for at, loss in curve if at <= seconds or at == curve[0][0]][-1]


def spread(values, form):
    """Mean, lowest and highest, as text."""
    if None in values:
        return "-"
    low, high = (format(value, form) for value in (min(values), max(values)))
    return f"{statistics.mean(values):{form}} ({low} to {high})"


def plot(curves, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for i, (name, results) in enumerate(curves.items()):
        for j, result in enumerate(results):
            label = {"torch.nn": "nanoGPT's configuration, PyTorch"}.get(name, name)
            axes.plot(*zip(*result["curve"]), color=f"C{i}", label=None if j else label)
    for loss, label in (
        (NANOGPT_LOSS, "nanoGPT's CPU run"),
        (NANOGPT_GPU_LOSS, "nanoGPT's GPU run (10.7M parameters, A100)"),
    ):
        axes.axhline(loss, color="gray", linestyle=":", linewidth=1)
        axes.annotate(label, (1, loss), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      color="gray", fontsize=8)  # fmt: skip
    axes.set(xlabel="seconds of training on two CPU cores", xscale="log", ylim=(1.3, 2.6))
    axes.set_ylabel("validation loss, nats per character")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        train_peer(arguments) if arguments.peer_seed else compare(arguments)
