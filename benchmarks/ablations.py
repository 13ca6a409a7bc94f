"""What each part of the fast recipe is worth: the loss in the same seconds without it."""

import argparse
import pathlib
import statistics
import sys
import tempfile

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.atomic_files import write_json
from neo_keras.errors import one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.text.corpus import load_corpus, split_corpus

PRESET = "shakespeare-cpu"
TRIAL_STEPS = 60  # to learn how long a step takes

CHANGES = {
    "the preset": {},
    "no n-grams": {"max_ngram": 1},
    "n-grams of 2 and 3 only": {"max_ngram": 3},
    "n-grams of 2 to 7": {"max_ngram": 7},
    "no decay of the n-gram table": {"ngram_weight_decay": 0.0},
    "dropout of n-grams 0.2": {"ngram_dropout": 0.2},
    "no norm after the embeddings": {"embedding_norm": False},
    "the next token alone": {"num_future_tokens": 0},
    "... and temperature 1": {"num_future_tokens": 0, "loss_temperature": 1.0},
    "AdamW instead of Muon": {"optimizer": "adamw"},
    "average of the weights": {"ema": 0.98},
    "cosine decay": {"schedule": "cosine"},
    "gradients clipped to 1": {"clip_norm": 1.0},
    "no QK norm": {"qk_norm": False},
    "GELU": {"activation": "gelu"},
    "4 heads of 32": {"num_heads": 4},
    "2 layers": {"num_layers": 2},
    "3 layers, 192 wide": {"num_layers": 3, "num_heads": 3, "hidden_dim": 192},
    "batch 8": {"batch_size": 8},
    "batch 32": {"batch_size": 32},
    "context 64, batch 32": {"max_seq_len": 64, "batch_size": 32},
    "dropout 0.1": {"dropout": 0.1},
    "bfloat16, without XLA": {"mixed_precision": "bfloat16", "jit_compile": False},
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add("--seconds", type=float, default=60, help="of training steps, in every run [%(default)s]")
    add("--seeds", type=int, default=3, metavar="N", help="runs of every change [%(default)s]")
    add("--only", nargs="+", metavar="CHANGE", choices=CHANGES, default=list(CHANGES), help="these")
    add("--json", metavar="FILE", help="also write all losses here")
    return parser.parse_args()


def main(args):
    import_tensorflow()
    losses = {name: [] for name in args.only}
    with tempfile.TemporaryDirectory() as directory:
        # The last tenth of the text plays no part in a choice: what is measured here is the loss
        # on the last tenth of the rest.
        rest, _ = split_corpus(load_corpus([args.data]))
        text = pathlib.Path(directory) / "text.txt"
        text.write_text(rest, encoding="utf-8")
        for name in args.only:
            trial = train(text, directory, {**CHANGES[name], "steps": TRIAL_STEPS})
            steps = round(args.seconds / trial["seconds_per_step"])
            for seed in range(1, args.seeds + 1):
                result = train(text, directory, {**CHANGES[name], "steps": steps, "seed": seed})
                losses[name].append({"steps": steps, **result})
                print(name, losses[name][-1], flush=True)
    print_table(losses)
    if args.json:
        write_json(args.json, losses)


def train(text, directory, changes):
    from neo_keras.training import trainer
    from neo_keras.training.compute import share_cores
    from neo_keras.training.start import start_run

    rich.get_console().quiet = True
    run, corpus = start_run(
        pathlib.Path(directory) / "run", [str(text)], PRESET, overwrite=True,
        eval_every=changes["steps"], sample_every=0, **changes,
    )  # fmt: skip
    run.training_config = share_cores(run.model_config, run.training_config)
    metrics, signal = trainer.train(run, corpus)
    rich.get_console().quiet = False
    if signal:
        sys.exit(128 + signal)
    return {
        "loss": metrics["val_loss"],
        "seconds": metrics["train_seconds"],
        "seconds_per_step": metrics["train_seconds"] / changes["steps"],
    }


def print_table(losses):
    table = Table("change", "steps", "seconds", "loss, mean", "lowest", "highest")
    for name, results in losses.items():
        values = [result["loss"] for result in results]
        seconds = statistics.mean(result["seconds"] for result in results)
        numbers = [f"{f(values):.4f}" for f in (statistics.mean, min, max)]
        table.add_row(name, str(results[0]["steps"]), f"{seconds:.0f}", *numbers)
    rich.print(table)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
