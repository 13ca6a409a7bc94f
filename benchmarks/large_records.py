"""What large files of records take: time to start and to resume, memory; the tokens are checked."""

import argparse
import gzip
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import rich
from memory import memory_mb, start_peak
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.errors import FailedError, one_line_errors
from neo_keras.text.formats import DOCUMENT_END
from neo_keras.text.plays import load_plays

SPEECHES_PER_DOCUMENT = 13  # some two thousand characters
FORMATS = (".jsonl.gz", ".parquet")
STARTS = ("first start", "resume", "first start, .txt")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--gigabytes", type=float, default=2, metavar="X", help="of each file, as it lies on the "
        "disk [%(default)s]")  # fmt: skip
    add("--tokenizer", choices=("byte", "char", "bpe"), default="byte", help="[%(default)s]")
    add("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="[both]")
    add("--directory", metavar="DIRECTORY", help="with room for some ten times the size of a file "
        "[where temporary files go]")  # fmt: skip
    add("--start", nargs=2, metavar=("RUN", "FILE"), help=argparse.SUPPRESS)  # in this process
    add("--resume", metavar="RUN", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(args):
    table = Table("file", "GB", "GB of text", *STARTS, "tokens, the same")
    for suffix in args.formats:
        with tempfile.TemporaryDirectory(dir=args.directory) as directory:
            directory = pathlib.Path(directory)
            file, plain = directory / f"records{suffix}", directory / "same.txt"
            WRITERS[suffix](file, args.gigabytes * 1e9, plain)
            commands = [
                ["--start", str(directory / "run"), str(file)],
                ["--resume", str(directory / "run")],
                ["--start", str(directory / "plain"), str(plain)],
            ]
            starts = [measure(args, directory, command) for command in commands]
            if len({(start["tokens"], start["sha256"]) for start in starts}) > 1:
                raise FailedError(
                    f"the tokens of {suffix} are not those of the same text: {starts}"
                )
            times = [f"{start['seconds']:,.1f} s, {start['peak_mb']:,.0f} MB" for start in starts]
            sizes = [f"{path.stat().st_size / 1e9:.3f}" for path in (file, plain)]
            table.add_row(suffix, *sizes, *times, f"{starts[0]['tokens']:,}")
    rich.print(table)


def measure(args, directory, command):
    command = [sys.executable, __file__, "--tokenizer", args.tokenizer, *command]
    cache = directory / ("cache of the text" if "same.txt" in command[-1] else "cache")
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment)
    if done.returncode:
        raise FailedError(f"a start ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def start(args):
    """Does what `train.py` does before its first step; the peak is above what the imports take."""
    from neo_keras.training.start import resume_run, start_run

    before, begin = start_peak(), time.perf_counter()
    if args.resume:
        _, corpus = resume_run(args.resume)
    else:
        run, file = args.start
        _, corpus = start_run(run, [file], tokenizer=args.tokenizer)
    seconds, peak = time.perf_counter() - begin, memory_mb("VmHWM") - before
    digest, num_tokens = hashlib.sha256(), 0
    for part in (corpus.training.token_ids, corpus.validation.token_ids):
        for i in range(0, len(part), 2**22):
            digest.update(part[i : i + 2**22])
        num_tokens += len(part)
    result = {"tokens": num_tokens, "sha256": digest.hexdigest()}
    print(json.dumps({**result, "seconds": seconds, "peak_mb": peak}))


def documents(plain):
    """The plays' speeches again and again, in an order of its own each time; also as plain text."""
    rng, speeches = np.random.default_rng(1), np.array(load_plays().split("\n\n"), dtype=object)
    with open(plain, "w", encoding="utf-8") as file:
        while True:
            order = rng.permutation(speeches)
            for i in range(0, len(order), SPEECHES_PER_DOCUMENT):
                text = "\n\n".join(order[i : i + SPEECHES_PER_DOCUMENT])
                file.write(text + DOCUMENT_END)
                yield text


def write_json_lines(path, size, plain):
    with open(path, "wb") as raw, gzip.open(raw, "wt", compresslevel=1, encoding="utf-8") as file:
        for number, text in enumerate(documents(plain)):
            file.write(json.dumps({"id": number, "text": text}) + "\n")
            if raw.tell() >= size:
                return


def write_parquet(path, size, plain):
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("id", pyarrow.int64()), ("text", pyarrow.string())])
    numbers, texts = [], []
    with open(path, "wb") as raw, pyarrow.parquet.ParquetWriter(raw, schema) as writer:
        for number, text in enumerate(documents(plain)):
            numbers.append(number)
            texts.append(text)
            if len(texts) == 5_000:  # rows in a group
                writer.write_table(pyarrow.table([numbers, texts], schema=schema))
                numbers, texts = [], []
                if raw.tell() >= size:
                    return


WRITERS = {".jsonl.gz": write_json_lines, ".parquet": write_parquet}


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        start(arguments) if arguments.start or arguments.resume else compare(arguments)
