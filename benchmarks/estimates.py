"""How far the estimates that `train.py` prints are from what is then measured."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import rich
import tokenizer_memory
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.errors import FailedError, one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.text.tokenizer_training import make_tokenizer

FEW = {"steps": 4, "steps_per_execution": 1}
SHORT = {"steps": 120, "steps_per_execution": 10}
GPT2 = {**FEW, "max_seq_len": 256, "batch_size": 4}
OTHER_MODE = {"jit_compile": True, "mixed_precision": "float32"}
RUNS = {  # preset and changes
    "default": ("shakespeare-cpu", SHORT),
    "default, float32 by XLA": ("shakespeare-cpu", {**SHORT, **OTHER_MODE}),
    "10.7M": ("shakespeare-gpu", FEW),
    "10.7M, float32 by XLA": ("shakespeare-gpu", {**FEW, **OTHER_MODE}),
    "124M": ("gpt2-124m", GPT2),
    "124M, float32 by XLA": ("gpt2-124m", {**GPT2, **OTHER_MODE}),
    "nanogpt-cpu": ("nanogpt-cpu", SHORT),
    "encoder-decoder": ("transformer", {**SHORT, "warmup_steps": 10}),
}
GPT2_VOCAB_SIZE = 50257


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME",
        help=f"{'; '.join(RUNS)} [all]")  # fmt: skip
    add("--measure", nargs=3, help=argparse.SUPPRESS)  # one run, in this process
    return parser.parse_args()


def compare(args):
    table = Table("run", "GB: estimated", "measured", "off", "s a step: est.", "measured", "off")
    with tempfile.TemporaryDirectory() as folder:
        write_texts(pathlib.Path(folder), any(RUNS[name][0] == "gpt2-124m" for name in args.runs))
        for name in args.runs:
            result = measure_in_subprocess(*RUNS[name], folder)
            print(name, json.dumps(result), flush=True)
            cells = []
            for what, unit in (("bytes", 1e9), ("seconds", 1)):
                estimated, measured = result["estimated"][what], result["measured"][what]
                cells += [f"{estimated / unit:.3g}", f"{measured / unit:.3g}"]
                cells += [f"{estimated / measured - 1:+.0%}"]
            table.add_row(name, *cells)
    rich.print(table)


def write_texts(folder, with_tokenizer):
    """A text to train on and, for GPT-2's size, a tokenizer with as many tokens as GPT-2's."""
    text = folder / "text.txt"
    tokenizer_memory.write_text(text, 12 * 10**6)
    text = text.read_text(encoding="utf-8")
    if with_tokenizer:
        tokenizer = make_tokenizer("bpe", [text], GPT2_VOCAB_SIZE)
        (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    (folder / "text.txt").write_text(text[:200_000], encoding="utf-8")


def measure_in_subprocess(preset, changes, folder):
    """Measures where the peak of the memory is of nothing else; as `measure`."""
    command = [sys.executable, __file__, "--measure", preset, json.dumps(changes), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode:
        raise FailedError(f"{preset} {changes} ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(preset, changes, folder):
    """Trains as `train.py` does, and prints what it estimated and what it took.

    Args:
        preset: a key of `PRESETS`.
        changes: JSON of fields of the configurations.
        folder: of `write_texts`.
    """
    import_tensorflow()
    import keras

    from neo_keras.training import trainer
    from neo_keras.training.compute import share_cores
    from neo_keras.training.start import start_run

    changes, folder = json.loads(changes), pathlib.Path(folder)
    tokenizer = str(folder / "tokenizer.json") if preset == "gpt2-124m" else "char"
    run, corpus = start_run(
        folder / "run", [str(folder / "text.txt")], preset, overwrite=True, tokenizer=tokenizer,
        sample_every=0, **changes,
    )  # fmt: skip
    run.training_config = share_cores(run.model_config, run.training_config)
    estimates, estimate_training = [], trainer.estimate_training

    def keep(*args):
        estimates.append(estimate_training(*args))
        return estimates[0]

    trainer.estimate_training = keep
    times, every = [], run.training_config.steps_per_execution

    def note(batch, logs):
        times.append(time.perf_counter())

    stopwatch = keras.callbacks.LambdaCallback(on_train_batch_begin=note, on_train_batch_end=note)
    metrics, _ = trainer.train(run, corpus, callbacks=[stopwatch])
    calls = [end - begin for begin, end in zip(times[2::2], times[3::2])]  # the first one compiles
    [estimate] = estimates
    result = {
        "params": metrics["num_params"],
        "estimated": {"bytes": estimate.memory_bytes, "seconds": estimate.seconds_per_step},
        "measured": {
            "bytes": tokenizer_memory.memory_bytes("VmHWM"),
            "seconds": statistics.median(calls) / every,
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        measure(*arguments.measure) if arguments.measure else compare(arguments)
