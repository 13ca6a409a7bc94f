"""The same model trained with SGD, Adam, AdamW and Muon for the same steps: a table of losses."""

import argparse
import pathlib
import statistics
import sys
import tempfile

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.atomic_files import write_json
from neo_keras.config import OPTIMIZERS
from neo_keras.errors import FailedError, InputError, one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import PRESETS
from neo_keras.text.corpus import load_corpus, split_corpus


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add("--preset", choices=PRESETS, default="nanogpt-cpu", metavar="NAME", help="[%(default)s]")
    add("--steps", type=int, default=1000, metavar="N", help="of every run [%(default)s]")
    add("--seeds", type=int, default=1, metavar="N", help="runs of each kind [%(default)s]")
    add("--optimizers", nargs="+", metavar="NAME", choices=OPTIMIZERS,
        default=["sgd", "adam", "adamw", "muon"], help="[%(default)s]")  # fmt: skip
    add("--factors", nargs="+", type=float, default=[1.0], metavar="X", help="these times each "
        "optimizer's own learning rate [1]")  # fmt: skip
    add("--json", metavar="FILE", help="also write all losses here")
    return parser.parse_args()


def main(args):
    if min(args.steps, args.seeds) < 1:
        raise InputError(f"steps and seeds must be at least 1, got {args.steps} and {args.seeds}")
    # The last tenth of the text plays no part in a choice, such as of the learning rates: what is
    # measured here is the loss on the last tenth of the rest.
    rest, _ = split_corpus(load_corpus([args.data]))
    import_tensorflow()
    results = []
    with tempfile.TemporaryDirectory() as directory:
        text = pathlib.Path(directory) / "text.txt"
        text.write_text(rest, encoding="utf-8")
        for optimizer in args.optimizers:
            for factor in args.factors:
                rate = OPTIMIZERS[optimizer]["learning_rate"] * factor
                curves = [train(text, args, optimizer, rate, 1 + i) for i in range(args.seeds)]
                results.append({"optimizer": optimizer, "learning_rate": rate, "curves": curves})
                print(optimizer, f"{rate:g}", curves, flush=True)
    print_table(results)
    if args.json:
        write_json(args.json, {"preset": args.preset, "results": results})


def train(text, args, optimizer, learning_rate, seed):
    """The validation losses of a run, [(step, loss)] at every quarter; none if it diverged."""
    from neo_keras.training import trainer
    from neo_keras.training.compute import share_cores
    from neo_keras.training.start import start_run

    rich.get_console().quiet = True
    run, corpus = start_run(
        text.parent / "run", [str(text)], args.preset, overwrite=True, optimizer=optimizer,
        learning_rate=learning_rate, steps=args.steps, seed=seed, sample_every=0,
        eval_every=-(-args.steps // 4),
    )  # fmt: skip
    run.training_config = share_cores(run.model_config, run.training_config)
    try:
        _, signal = trainer.train(run, corpus)
    except FailedError:
        return []
    finally:
        rich.get_console().quiet = False
    if signal:
        sys.exit(128 + signal)
    return [(row["step"], row["val_loss"]) for row in run.read_history()]


def print_table(results):
    steps = next(([step for step, _ in c] for r in results for c in r["curves"] if c), [])
    table = Table("optimizer", "rate", *(f"after {step:,}" for step in steps))
    for result in results:
        columns = zip(*([loss for _, loss in curve] for curve in result["curves"]))
        means = [f"{statistics.mean(losses):.4f}" for losses in columns]
        if not all(result["curves"]):
            means = ["diverged"]
        table.add_row(result["optimizer"], f"{result['learning_rate']:g}", *means)
    rich.print(table)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
