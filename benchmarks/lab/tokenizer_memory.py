"""How much memory it takes to make a large text ready for training, with each tokenizer."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import rich
from rich.table import Table

BENCHMARKS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS.parent)]  # so that it runs uninstalled

from memory import memory_mb, start_peak

from neo_keras.errors import FailedError, one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.text.tokenizer_models import KINDS

NUM_WORDS = 1_000_000  # different ones, of which the text has many only a few times
SYLLABLES = [c + v for c in "bcdfghklmnprstvwz" for v in ("a", "e", "i", "o", "ou", "é")]
MARKS = [" "] * 13 + [", ", ". ", ".\n", " 日本 ", "! 😀 ", " 9½ "]
WORDS_PER_PART = 200_000
NUM_BATCHES = 100


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--megabytes", type=int, default=1000, metavar="N", help="of text [%(default)s]")
    add("--tokenizers", nargs="+", default=list(KINDS), metavar="KIND", help="[all]")
    add("--directory", metavar="DIRECTORY", help="with room for the text and its tokens, up to "
        "twice its size [where temporary files go]")  # fmt: skip
    add("--measure", nargs=2, help=argparse.SUPPRESS)  # a tokenizer and a text, in this process
    return parser.parse_args()


def compare(args):
    table = Table("tokenizer", "tokens per character", "seconds", "MB above TensorFlow")
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        text = pathlib.Path(directory) / "text.txt"
        write_text(text, args.megabytes * 10**6)
        for name in args.tokenizers:
            command = [sys.executable, __file__, "--measure", name, str(text)]
            environment = {**os.environ, "XDG_CACHE_HOME": directory}
            done = subprocess.run(command, stdout=subprocess.PIPE, env=environment)
            if done.returncode:
                raise FailedError(f"{name} ended with exit code {done.returncode}")
            result = json.loads(done.stdout.splitlines()[-1])
            print(name, result, flush=True)
            table.add_row(
                name,
                f"{result['tokens_per_char']:.3f}",
                f"{result['seconds']:.0f}",
                f"{result['mb_above']:,.0f}",
            )
    rich.print(table)


def write_text(path, size):
    """Writes words as frequent as those of a language are (Zipf's law), some of them not ASCII."""
    rng = np.random.default_rng(1)
    words = np.array([spell(i) for i in range(NUM_WORDS)], dtype=object)
    share = 1 / np.arange(3, NUM_WORDS + 3)
    bounds = np.cumsum(share / share.sum())
    with open(path, "w", encoding="utf-8", newline="") as file:
        while file.tell() < size:
            ranks = np.searchsorted(bounds[:-1], rng.random(WORDS_PER_PART))
            marks = rng.integers(len(MARKS), size=WORDS_PER_PART)
            file.write("".join(w + MARKS[m] for w, m in zip(words[ranks], marks)))


def spell(number):
    """Frequent words are short."""
    word = ""
    while number >= 0:
        number, syllable = divmod(number, len(SYLLABLES))
        word += SYLLABLES[syllable]
        number -= 1
    return word


def measure(name, text):
    """Does what `train.py` does before its first step, and reads some batches."""
    import_tensorflow()
    from neo_keras.training import trainer  # noqa: F401 (what it loads is there before)
    from neo_keras.training.dataset import training_dataset
    from neo_keras.training.start import start_run

    run_path = pathlib.Path(text).with_name("run")
    before, begin = start_peak(), time.perf_counter()
    _, corpus = start_run(run_path, [text], overwrite=True, tokenizer=name)
    seconds = time.perf_counter() - begin
    for _ in training_dataset(corpus.training.token_ids, 128, 16, seed=1, steps=NUM_BATCHES):
        pass
    result = {
        "tokens_per_char": corpus.validation.tokens_per_char,
        "seconds": seconds,
        "mb_above": memory_mb("VmHWM") - before,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        measure(*arguments.measure) if arguments.measure else compare(arguments)
