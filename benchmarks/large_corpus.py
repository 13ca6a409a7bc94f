"""What a text of many gigabytes takes: time to start, memory, and how fast batches are read."""

import argparse
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
import rich
from memory import memory_mb, start_peak
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.errors import one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import from_preset
from neo_keras.text.encoding import token_files_directory
from neo_keras.text.plays import load_plays

FILE_BYTES = 10**9
NUM_BATCHES = 5000
FAST_PRESETS = ("nanogpt-cpu", "shakespeare-cpu")
TRAINING_STEPS = 200


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--gigabytes", type=float, default=10, metavar="X", help="of text [%(default)s]")
    add("--tokenizer", choices=("byte", "char"), default="byte", help="[%(default)s]")
    add("--directory", metavar="DIRECTORY", help="with room for the text and its tokens, twice its "
        "size [where temporary files go]")  # fmt: skip
    return parser.parse_args()


def main(args):
    import_tensorflow()
    from neo_keras.training import trainer  # noqa: F401 (what it loads is there before)
    from neo_keras.training.start import resume_run, start_run

    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        directory = pathlib.Path(directory)
        os.environ["XDG_CACHE_HOME"] = str(directory / "cache")
        texts = directory / "texts"
        write_texts(texts, args.gigabytes * 1e9)
        table = Table("what", "measured")
        before, begin = start_peak(), time.perf_counter()
        _, corpus = start_run(directory / "run", [str(texts)], tokenizer=args.tokenizer)
        report_start(table, "first start", begin, before, args.gigabytes)
        corpus = None
        before, begin = start_peak(), time.perf_counter()
        _, corpus = resume_run(directory / "run")
        report_start(table, "second start", begin, before, args.gigabytes)

        token_ids = corpus.training.token_ids
        speeds = {}
        drop_cached_pages()
        for state in ("cold", "warm"):
            before = {name: memory_mb(name) for name in ("RssAnon", "VmRSS")}
            speeds[state], most = read_batches(token_ids)
            growth = {name: most[name] - before[name] for name in before}
            table.add_row(
                f"batches, {state} page cache",
                f"{speeds[state]:,.0f} tokens/s; resident memory grew by {growth['VmRSS']:,.0f} MB "
                f"(without pages of files {growth['RssAnon']:,.0f})",
            )
        trained = {name: training_speed(name, token_ids) for name in FAST_PRESETS}
        for name, speed in trained.items():
            table.add_row(f"{name} trains on", f"{speed:,.0f} tokens/s")
        for state, speed in speeds.items():
            ratio = speed / max(trained.values())
            table.add_row(f"batches, {state}: times what the faster one takes", f"{ratio:.0f}")
    rich.print(table)


def write_texts(directory, size):
    """Writes the plays' speeches again and again, in an order of its own each time."""
    directory.mkdir()
    rng = np.random.default_rng(1)
    speeches = np.array(load_plays().split("\n\n"), dtype=object)
    written = 0
    while written < size:
        with open(directory / f"{written // FILE_BYTES:03}.txt", "w", encoding="utf-8") as file:
            while file.tell() < min(FILE_BYTES, size - written):
                file.write("\n\n".join(rng.permutation(speeches)) + "\n\n")
            written += file.tell()


def report_start(table, name, begin, before, gigabytes):
    seconds, peak = time.perf_counter() - begin, memory_mb("VmHWM") - before
    table.add_row(
        name,
        f"{seconds:,.1f} s, {seconds / gigabytes:.1f} s a GB; peak of memory {peak:,.0f} MB above "
        "TensorFlow's",
    )


def drop_cached_pages():
    os.sync()
    for path in token_files_directory().iterdir():
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_batches(token_ids):
    """(tokens/s, the most memory) of the same random windows each time."""
    from neo_keras.training.dataset import training_dataset

    config, training = from_preset("shakespeare-cpu", 256)
    settings = config.max_seq_len, training.batch_size, training.seed, NUM_BATCHES
    most = {"RssAnon": 0, "VmRSS": 0}
    begin = time.perf_counter()
    for i, _ in enumerate(training_dataset(token_ids, *settings)):
        if i % 100 == 0:
            most = {name: max(most[name], memory_mb(name)) for name in most}
    seconds = time.perf_counter() - begin
    return NUM_BATCHES * training.batch_size * config.max_seq_len / seconds, most


def training_speed(preset, token_ids):
    """Tokens/s of training on these tokens, once it is compiled."""
    from neo_keras.training.compute import prepare_cpu, this_machine
    from neo_keras.training.dataset import training_dataset
    from neo_keras.training.resolve import resolve
    from neo_keras.training.train_step import make_train_step

    config, training = from_preset(preset, 256)
    training = resolve(config, training, machine=this_machine())
    prepare_cpu(training.cpu_replicas)
    train_step = make_train_step(config, training)
    settings = config.max_seq_len, training.batch_size, training.seed
    train_step.fit(
        training_dataset(token_ids, *settings, 2 * training.steps_per_execution),
        shuffle=False,
        verbose=0,
    )
    begin = time.perf_counter()
    train_step.fit(training_dataset(token_ids, *settings, TRAINING_STEPS), shuffle=False, verbose=0)
    seconds = time.perf_counter() - begin
    return TRAINING_STEPS * training.batch_size * config.max_seq_len / seconds


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
