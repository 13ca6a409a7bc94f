"""An encoder-decoder against a decoder of as many parameters, trained on a text for as long.

Both predict the same tokens of the validation text, the decoder with at least half a context before
each (`--sliding-window-eval`), the encoder-decoder with a source of that length.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.atomic_files import write_json
from neo_keras.errors import InputError, one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import PRESETS, from_preset

NAMES = ("decoder-only", "encoder-decoder")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add("--preset", choices=PRESETS, default="shakespeare-cpu", metavar="NAME", help="of the "
        "decoder [%(default)s]")  # fmt: skip
    add("--layers", type=int, default=3, metavar="N", help="of encoder and decoder, each; the "
        "other has 28 / 12 as many, which for 3 makes parameters equal [%(default)s]")  # fmt: skip
    add("--seconds", type=float, default=60, metavar="X", help="of training, each [%(default)s]")
    add("--seeds", type=int, default=1, metavar="N", help="runs of each [%(default)s]")
    add("--json", metavar="FILE", help="also write the results here")
    return parser.parse_args()


def main(args):
    if min(args.layers, args.seeds) < 1 or not 0 < args.seconds < float("inf"):
        raise InputError("layers and seeds must be at least 1, and seconds above 0")
    import_tensorflow()
    rich.get_console().quiet = True
    results = [
        result
        for i in range(args.seeds)
        for result in (run_one(args, name, seed=1 + i) for name in NAMES)
    ]
    rich.get_console().quiet = False
    table = Table("architecture", "layers", "parameters", "steps", "seconds", "loss")
    for r in results:
        numbers = r["num_params"], r["step"], round(r["train_seconds"])
        columns = (f"{number:,}" for number in numbers)
        table.add_row(r["architecture"], str(r["num_layers"]), *columns, f"{r['loss']:.4f}")
    rich.print(table)
    decoder, encoder_decoder = (
        statistics.mean(r["loss"] for r in results if r["architecture"] == name) for name in NAMES
    )
    print(f"encoder-decoder: {encoder_decoder / decoder - 1:+.1%} of the decoder's loss")
    if args.json:
        write_json(args.json, results)


def run_one(args, architecture, seed):
    """Trains until the schedule ends, in about `args.seconds`: a first run tells the speed."""
    trial = train(args, architecture, seed, steps=100)
    steps = max(int(100 * args.seconds / trial["train_seconds"]), 20)
    result = train(args, architecture, seed, steps)
    print(result, flush=True)
    return result


def train(args, architecture, seed, steps):
    from neo_keras.training import trainer
    from neo_keras.training.compute import share_cores
    from neo_keras.training.start import start_run

    model, training = from_preset(args.preset, vocab_size=1)
    changes = {"steps": steps, "eval_every": steps, "sample_every": 0, "seed": seed}
    if architecture == "encoder-decoder":
        # A window is as long as the decoder's, and cut in two: twice as many predict as much.
        changes |= {"architecture": architecture, "num_layers": args.layers,
                    "max_seq_len": model.max_seq_len // 2,
                    "batch_size": 2 * training.batch_size}  # fmt: skip
    else:
        # In squares of the width an encoder's block has 12, a decoder's with cross-attention 16.
        changes |= {"num_layers": round(args.layers * 28 / 12), "sliding_window_eval": True}
    with tempfile.TemporaryDirectory() as directory:
        run, corpus = start_run(
            pathlib.Path(directory) / "run", [args.data], args.preset, **changes
        )
        run.training_config = share_cores(run.model_config, run.training_config)
        metrics, signal = trainer.train(run, corpus)
    if signal:
        sys.exit(128 + signal)
    loss = metrics.get("val_loss_sliding", metrics["val_loss"])
    kept = {name: metrics[name] for name in ("num_params", "step", "train_seconds")}
    return {"architecture": architecture, "seed": seed, **changes, **kept, "loss": loss}


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
