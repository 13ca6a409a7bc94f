"""Decoding speed and memory of pretrained weights in 8 bits: our .tflite, LiteRT-LM, llama.cpp.

Needs the packages of requirements.txt and requirements-peers.txt.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from memory import memory_mb

from neo_keras.atomic_files import write_json
from neo_keras.environment import prepare_for_keras
from neo_keras.errors import FailedError, InputError, one_line_errors
from neo_keras.native_logs import import_tensorflow, native_log_hidden

PROMPT = "Once upon a time, there was a little girl who"
WARMUP_TOKENS = 16
SUFFIXES = {"neo_keras": "int8.tflite", "LiteRT-LM": "int8.litertlm", "llama.cpp": "int8.gguf"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("path", metavar="PATH", help="weights, as export.py takes them")
    add("--seq-len", type=int, default=512, metavar="N", help="context [%(default)s]")
    add("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="[1 2]")
    add("--runs", type=int, default=3, metavar="N", help="rounds of all engines [%(default)s]")
    add("--tokens", type=int, default=128, metavar="N", help="timed in a run [%(default)s]")
    add("--exported", metavar="DIRECTORY", help="that export.py has written the files to already")
    add("--json", metavar="FILE", help="also write all measurements here")
    return parser.parse_args()


def main(args):
    if args.tokens + WARMUP_TOKENS > args.seq_len:
        raise InputError(f"--tokens must be below --seq-len {args.seq_len}, got {args.tokens}")
    with tempfile.TemporaryDirectory() as directory:
        if not args.exported:
            export(args.path, args.seq_len, directory)
        files = pathlib.Path(args.exported or directory)
        rows = [
            {"round": i, "threads": threads, **measure(engine, files, threads, args)}
            for i in range(args.runs)  # in turn, so that a slow minute of the machine hits all
            for threads in args.threads
            for engine in SUFFIXES
        ]
    print_table(rows, args.threads)
    if args.json:
        write_json(args.json, rows)


def export(path, seq_len, directory):
    print("exporting (some minutes)", flush=True)
    prepare_for_keras()
    import_tensorflow()
    from neo_keras.export.exporter import export_pretrained
    from neo_keras.weights.open import open_pretrained

    export_pretrained(
        open_pretrained(path, seq_len), directory, ["tflite", "litertlm", "gguf"], ["int8"]
    )


def measure(engine, files, threads, args):
    """Decodes in a process of its own; returns a dict: engine, tokens_per_second, memory_mb."""
    settings = {"path": str(files / f"model-{SUFFIXES[engine]}"), "threads": threads,
                "num_tokens": args.tokens, "seq_len": args.seq_len}  # fmt: skip
    command = [sys.executable, __file__, "--worker", json.dumps([engine, settings])]
    process = subprocess.run(command, stdout=subprocess.PIPE)
    if process.returncode:
        raise FailedError(f"{engine} ended with exit code {process.returncode}")
    row = {"engine": engine, **json.loads(process.stdout.splitlines()[-1])}
    print(f"{engine}, threads: {threads}: {row['tokens_per_second']:.1f} tokens/s", flush=True)
    return row


def work(engine, settings):
    speed = ENGINES[engine](**settings)
    print(json.dumps({"tokens_per_second": speed, "memory_mb": memory_mb("VmHWM")}))


def neo_keras_speed(path, threads, num_tokens, seq_len):
    """Greedy, in the loop that generate.py runs; what comes after the warm-up is timed."""
    import itertools

    from neo_keras.generation.decoding import generate_ids
    from neo_keras.generation.load import load_engine
    from neo_keras.generation.sampler import GREEDY

    engine, tokenizer = load_engine(path, threads)
    stream = generate_ids(engine, tokenizer.encode(PROMPT), GREEDY, seed=0)
    list(itertools.islice(stream, WARMUP_TOKENS))
    begin = time.perf_counter()
    list(itertools.islice(stream, num_tokens))
    return num_tokens / (time.perf_counter() - begin)


def litert_lm_speed(path, threads, num_tokens, seq_len):
    """What `litert-lm benchmark` prints."""
    import litert_lm

    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    with native_log_hidden():
        benchmark = litert_lm.Benchmark(
            path, backend=litert_lm.Backend.CPU(thread_count=threads),
            prefill_tokens=WARMUP_TOKENS, decode_tokens=num_tokens, max_num_tokens=seq_len,
        )  # fmt: skip
        return benchmark.run().last_decode_tokens_per_second


def llama_cpp_speed(path, threads, num_tokens, seq_len):
    """What its server says of a greedy text that may not end; its cache is float16, as usual."""
    import xllamacpp

    with native_log_hidden():
        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel = path, seq_len, 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        server = xllamacpp.Server(params)
        body = {"prompt": PROMPT, "n_predict": num_tokens, "temperature": 0, "ignore_eos": True}
        request = urllib.request.Request(
            f"{server.listening_address}/completion", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        answers = []
        for _ in range(2):  # the first to warm up
            with urllib.request.urlopen(request) as answer:
                answers.append(json.load(answer))
    return answers[-1]["timings"]["predicted_per_second"]


ENGINES = {
    "neo_keras": neo_keras_speed,
    "LiteRT-LM": litert_lm_speed,
    "llama.cpp": llama_cpp_speed,
}


def print_table(rows, all_threads):
    for threads in all_threads:
        table = Table("engine", "tokens/s, median", "min", "max", "neo_keras/it", "peak MB",
                      title=f"threads: {threads}")  # fmt: skip
        same = [row for row in rows if row["threads"] == threads]
        by_engine = {name: [r for r in same if r["engine"] == name] for name in ENGINES}
        ours = [row["tokens_per_second"] for row in by_engine["neo_keras"]]
        for name, measured in by_engine.items():
            speeds = [row["tokens_per_second"] for row in measured]
            ratio = statistics.median(a / b for a, b in zip(ours, speeds))
            memory = statistics.median(row["memory_mb"] for row in measured)
            spread = [f"{f(speeds):.1f}" for f in (statistics.median, min, max)]
            table.add_row(name, *spread, f"{ratio:.2f}", f"{memory:.0f}")
        rich.print(table)


if __name__ == "__main__":
    with one_line_errors():
        if sys.argv[1:2] == ["--worker"]:
            work(*json.loads(sys.argv[2]))
        else:
            main(parse_arguments())
