"""The default preset trained in float32 and in bfloat16, for the same steps: a table of losses."""

import argparse
import pathlib
import statistics
import sys
import tempfile

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.config import PRECISIONS
from neo_keras.errors import InputError, one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import PRESETS


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add(
        "--preset", choices=PRESETS, default="shakespeare-cpu", metavar="NAME", help="[%(default)s]"
    )
    add("--steps", type=int, metavar="N", help="of every run [the preset's]")
    add("--seeds", type=int, default=3, metavar="N", help="runs of each [%(default)s]")
    add("--precisions", nargs="+", metavar="NAME", choices=PRECISIONS,
        default=["float32", "bfloat16"], help="compared with the first [%(default)s]")  # fmt: skip
    return parser.parse_args()


def main(args):
    if args.seeds < 1:
        raise InputError(f"seeds must be at least 1, got {args.seeds}")
    import_tensorflow()
    losses = {precision: [] for precision in args.precisions}
    with tempfile.TemporaryDirectory() as directory:
        for seed in range(1, args.seeds + 1):
            for precision in args.precisions:
                losses[precision].append(train(args, f"{directory}/run", precision, seed))
                print(precision, losses[precision][-1], flush=True)
    table = Table("precision", "validation loss, mean", "min", "max", "more than the first")
    base = statistics.mean(losses[args.precisions[0]])
    for precision, values in losses.items():
        mean = statistics.mean(values)
        columns = (f"{loss:.4f}" for loss in (mean, min(values), max(values)))
        table.add_row(precision, *columns, f"{mean / base - 1:+.2%}")
    rich.print(table)


def train(args, path, precision, seed):
    """The loss on the whole validation text at the end."""
    from neo_keras.training import trainer
    from neo_keras.training.compute import share_cores
    from neo_keras.training.start import start_run

    rich.get_console().quiet = True
    run, corpus = start_run(
        path, [args.data], args.preset, overwrite=True, mixed_precision=precision,
        steps=args.steps, seed=seed, sample_every=0,
    )  # fmt: skip
    run.training_config = share_cores(run.model_config, run.training_config)
    metrics, signal = trainer.train(run, corpus)
    rich.get_console().quiet = False
    if signal:
        sys.exit(128 + signal)
    return metrics["val_loss"]


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
