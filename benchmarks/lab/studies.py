"""Trains variants of a preset for the same seconds or the same steps, and compares losses."""

import argparse
import dataclasses
import pathlib
import statistics
import sys
import tempfile

import rich
from rich import box
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # so that it runs uninstalled

from neo_keras.atomic_files import write_json
from neo_keras.choices import OPTIMIZERS
from neo_keras.errors import FailedError, InputError, one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import PRESETS
from neo_keras.text.corpus import load_corpus, split_corpus
from neo_keras.text.tokenizer_models import KINDS

TRIAL_STEPS = 60  # to learn how long a step takes


@dataclasses.dataclass(frozen=True)
class Study:
    """Variants that are compared with the first of them.

    Attributes:
        question: what it answers.
        variants: {name: changes of the preset}.
        seconds, steps: how long each trains: the same seconds, or else the same steps.
        preset: a key of `PRESETS`.
        metric: the entry of `metrics.json` that is compared.
        held_out: whether it chooses something. The last tenth of the text, which all reported
            losses are measured on, plays no part in a choice: it is cut off first.
    """

    question: str
    variants: dict
    seconds: float | None = None
    steps: int | None = None
    preset: str = "shakespeare-cpu"
    metric: str = "val_loss"
    held_out: bool = False


PARTS = {
    "the preset": {},
    "no n-grams": {"max_ngram": 1},
    "n-grams of 2 and 3 only": {"max_ngram": 3},
    "n-grams of 2 to 7": {"max_ngram": 7},
    "no weight decay of the n-gram table": {"ngram_weight_decay": 0.0},
    "dropout of n-grams 0.2": {"ngram_dropout": 0.2},
    "no norm after the embeddings": {"embedding_norm": False},
    "the next token alone": {"num_future_tokens": 0},
    "... and loss temperature 1": {"num_future_tokens": 0, "loss_temperature": 1.0},
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
RATES = {
    f"{name} at {rate * factor:g}": {"optimizer": name, "learning_rate": rate * factor}
    for name, rate in ((name, row.learning_rate) for name, row in OPTIMIZERS.items())
    for factor in (0.25, 0.5, 1, 2, 4)
}
ARCHITECTURES = {
    # In squares of the width a decoder's block has 12 parameters, an encoder's 12 and one with
    # cross-attention 16: 7 blocks have as many as 3 and 3. A window is as long as the decoder's,
    # and cut in two: twice as many predict as many tokens.
    "decoder-only": {"num_layers": 7, "sliding_window_eval": True},
    "encoder-decoder": {
        "architecture": "encoder-decoder", "num_layers": 3, "max_seq_len": 64, "batch_size": 32,
    },
}  # fmt: skip
STUDIES = {
    "parts": Study("what each part of the fast recipe is worth", PARTS, seconds=60, held_out=True),
    "optimizers": Study(
        "the optimizers, each at its own learning rate",
        {name: {"optimizer": name} for name in OPTIMIZERS},
        steps=1000, preset="nanogpt-cpu", held_out=True,
    ),
    "learning-rates": Study(
        "which learning rate suits each optimizer", RATES,
        steps=600, preset="nanogpt-cpu", held_out=True,
    ),
    "precisions": Study(
        "what bfloat16 costs",
        {name: {"mixed_precision": name} for name in ("float32", "bfloat16")}, steps=1400,
    ),
    "tokenizers": Study(
        "bits per character with each tokenizer",
        {name: {"tokenizer": name} for name in KINDS}, seconds=75, metric="val_bits_per_char",
    ),
    "architectures": Study(
        "an encoder-decoder against a decoder of as many parameters", ARCHITECTURES, seconds=60
    ),
}  # fmt: skip


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    studies = "; ".join(f"{name}: {study.question}" for name, study in STUDIES.items())
    add("study", metavar="STUDY", choices=STUDIES, help=studies)
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add("--preset", choices=PRESETS, metavar="NAME", help="[the study's]")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="of every run [the study's]")
    length.add_argument("--seconds", type=float, metavar="X", help="of training [the study's]")
    add("--seeds", type=int, default=3, metavar="N", help="runs of every variant [%(default)s]")
    add("--only", nargs="+", metavar="VARIANT", help="these variants [all]")
    add("--json", metavar="FILE", help="also write all results here")
    return parser.parse_args()


def main(args):
    study = STUDIES[args.study]
    if args.steps or args.seconds:
        study = dataclasses.replace(study, steps=args.steps, seconds=args.seconds)
    study = dataclasses.replace(study, preset=args.preset or study.preset)
    names = args.only or list(study.variants)
    if unknown := [name for name in names if name not in study.variants]:
        raise InputError(f"{args.study} has no {unknown[0]!r}: {', '.join(study.variants)}")
    if args.seeds < 1:
        raise InputError(f"seeds must be at least 1, got {args.seeds}")
    import_tensorflow()
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        data = hold_out(args.data, directory) if study.held_out else args.data
        results = compare(study, names, args.seeds, data, directory / "run")
    print_table(study, results)
    if args.json:
        write_json(args.json, {"study": args.study, "preset": study.preset, "results": results})


def hold_out(data, directory):
    """Writes the text without its last tenth; returns the path."""
    rest, _ = split_corpus(load_corpus([data]))
    path = directory / "text.txt"
    path.write_text(rest, encoding="utf-8")
    return str(path)


def compare(study, names, seeds, data, path):
    """Returns {variant: list of metrics, one of each seed; of one that diverged, None}."""
    steps = dict.fromkeys(names, study.steps)
    if study.seconds:
        for name in names:
            trial = train(study, study.variants[name], data, path, steps=TRIAL_STEPS)
            steps[name] = max(round(study.seconds / trial["train_seconds"] * TRIAL_STEPS), 1)
    results = {name: [] for name in names}
    for seed in range(1, seeds + 1):  # in turn: a slow minute of the machine hits all
        for name in names:
            changes = {**study.variants[name], "steps": steps[name], "seed": seed}
            try:
                results[name].append(train(study, changes, data, path))
            except FailedError:  # the loss is not finite
                results[name].append(None)
            print(name, results[name][-1], flush=True)
    return results


def train(study, changes, data, path, **more):
    """Trains as `train.py` does; returns the metrics."""
    from neo_keras.training import trainer
    from neo_keras.training.start import start_run

    changes = {**changes, **more}
    rich.get_console().quiet = True
    try:
        run, corpus = start_run(
            path, [data], study.preset, overwrite=True, sample_every=0,
            eval_every=-(-changes["steps"] // 4), **changes,
        )  # fmt: skip
        metrics, signal = trainer.train(run, corpus)
    finally:
        rich.get_console().quiet = False
    if signal:
        sys.exit(128 + signal)
    value = metrics.get(f"{study.metric}_sliding", metrics[study.metric])
    curve = [(row["step"], row["val_loss"]) for row in run.read_history()]
    return {**metrics, "value": value, "curve": curve}


def print_table(study, results):
    table = Table("variant", "parameters", "steps", "s", "mean", "min", "max", "to first",
                  title=study.metric, box=box.SIMPLE)  # fmt: skip
    first = None
    for name, runs in results.items():
        if None in runs:
            table.add_row(name, *["-"] * 3, "diverged")
            continue
        values = [metrics["value"] for metrics in runs]
        mean = statistics.mean(values)
        first = first or mean
        seconds = statistics.mean(metrics["train_seconds"] for metrics in runs)
        table.add_row(
            name, f"{runs[0]['num_params']:,}", f"{runs[0]['step']:,}", f"{seconds:.0f}",
            *(f"{value:.4f}" for value in (mean, min(values), max(values))),
            f"{mean / first - 1:+.2%}",
        )  # fmt: skip
    rich.print(table)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
