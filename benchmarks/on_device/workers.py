"""What on_device does in processes of their own, so that no engine's threads disturb another.

`run` starts one of the `TASKS`; each returns what JSON can say.
"""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

BENCHMARKS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS.parent)]  # so that it runs uninstalled

import decoders
from memory import memory_mb
from model_files import Files, write_files

from neo_keras.errors import FailedError, one_line_errors

WARMUP_TOKENS = 20
MIN_SECONDS = 1.0  # of decoding in a run
MEMORY_BYTES = 2**29  # far more than a cache holds
RANGES = (0, 250), (250, 500), (500, 800), (800, 1020)


def run(task, **arguments):
    """Runs a task to its end in a new process; returns its result.

    Raises:
        FailedError: the process failed.
    """
    command = [sys.executable, __file__, json.dumps({"task": task, **arguments})]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # `bandwidth` has its own threads
    process = subprocess.run(command, stdout=subprocess.PIPE, env=environment)
    if process.returncode:
        what = " ".join(str(arguments.get(name, "")) for name in ("engine", "precision"))
        raise FailedError(f"{task} {what.strip()} ended with exit code {process.returncode}")
    return json.loads(process.stdout.splitlines()[-1])


def write(directory, size, max_seq_len, run, num_tokens, engines):
    """Makes the files of a model; returns its `ModelConfig` as a dict."""
    formats = [(decoders.FAMILIES[e][0], decoders.FAMILIES[e][1][p]) for e, p in engines]
    write_files(directory, size, max_seq_len, run, num_tokens, formats)
    return dataclasses.asdict(Files(directory).config)


def decode(directory, engine, precision, num_threads, num_tokens):
    """Continues the prompt, once to warm up, then timed, for a second or longer.

    Returns:
        dict: `tokens_per_second`; `equal`, how many tokens are those of the reference before the
        first that is not; `gap`, by how much the reference likes that one less than its own.
    """
    files, decoder = _load(directory, engine, precision, num_threads)
    prompt_ids = files.prompt_ids()
    decoder.decode(prompt_ids, num_tokens if decoder.compiles else WARMUP_TOKENS)
    num_runs, seconds = 0, 0.0
    while seconds < MIN_SECONDS:
        token_ids, run_seconds = decoder.decode(prompt_ids, num_tokens)
        num_runs, seconds = num_runs + 1, seconds + run_seconds
    expected, logits = files.reference()
    equal = np.append(np.equal(token_ids, expected[: len(token_ids)]), False).argmin()
    gap = 0.0
    if equal < len(token_ids):
        gap = logits[equal].max() - logits[equal, token_ids[equal]]
    speed = num_runs * num_tokens / seconds
    return {"tokens_per_second": speed, "equal": int(equal), "gap": float(gap)}


def positions(directory, engine, precision, num_threads):
    """Fills the context from its beginning, once to warm up, then timed.

    Returns:
        dict: tokens per second in each of the `RANGES`.
    """
    files, decoder = _load(directory, engine, precision, num_threads)
    prompt_ids = files.prompt_ids()[:1]
    decoder.decode(prompt_ids, RANGES[-1][1])
    marks = []
    for _ in itertools.islice(decoder.tokens(prompt_ids), RANGES[-1][1] + 1):
        marks.append(time.perf_counter())  # mark i: positions up to i are in the cache
    return {f"{a}-{b}": (b - a) / (marks[b] - marks[a]) for a, b in RANGES}


def endurance(directory, engine, precision, num_threads, num_tokens):
    """Writes far past the context.

    Returns:
        dict: megabytes of memory in use (RSS) after so many tokens, and after as many again.
    """
    files, decoder = _load(directory, engine, precision, num_threads)
    stream = decoder.tokens(files.prompt_ids())
    megabytes = []
    for _ in range(2):
        for _ in itertools.islice(stream, num_tokens):
            pass
        megabytes.append(memory_mb("VmRSS"))
    return dict(zip(("MB before", "MB after"), megabytes))


def bandwidth(num_threads):
    """How fast so many threads read memory.

    Returns:
        dict: `bytes_per_second`, the best of ten readings.
    """
    parts = np.split(np.ones(MEMORY_BYTES // 4, "float32"), num_threads)
    with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
        seconds = []
        for _ in range(10):
            begin = time.perf_counter()
            list(pool.map(lambda part: part @ part, parts))
            seconds.append(time.perf_counter() - begin)
    return {"bytes_per_second": MEMORY_BYTES / min(seconds)}


def _load(directory, engine, precision, num_threads):
    files = Files(directory)
    engine_class, quantizations = decoders.FAMILIES[engine]
    return files, engine_class(files, quantizations[precision], num_threads)


TASKS = {task.__name__: task for task in (write, decode, positions, endurance, bandwidth)}

if __name__ == "__main__":
    with one_line_errors():
        task_arguments = json.loads(sys.argv[1])
        print(json.dumps(TASKS[task_arguments.pop("task")](**task_arguments)))
