"""What a `.tflite` costs, without TensorFlow: `python -m neo_keras.export.benchmark FILE`."""

import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import time

from neo_keras.errors import FailedError
from neo_keras.generation.decoding import generate_ids
from neo_keras.generation.sampler import Sampler

REPEATS = 3
MAX_SECONDS = 5.0  # what takes longer is timed once


def run_benchmark(path):
    """Loads a `.tflite` in a new process and times it there.

    Returns:
        dict: `load_seconds`; `peak_memory_bytes` of the process, Python and NumPy included;
        `prefill_tokens_per_second` and `decode_tokens_per_second`, each by number of threads ("1"
        and "2"). Of a model that drafts also `drafting`, with 2 threads: `tokens_per_second` of
        sampled text, and `tokens_per_step`.

    Raises:
        FailedError: the process ended early, as for want of memory.
    """
    command = [sys.executable, "-m", "neo_keras.export.benchmark", pathlib.Path(path).resolve()]
    root = pathlib.Path(__file__).parents[2]
    # Ctrl-C is for this process alone, which then ends the other one and says so in one line.
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, start_new_session=True)
    if code := done.returncode:
        raise FailedError(f"{path} was verified, but timing it ended with exit code {code}")
    return json.loads(done.stdout)


def main(path):
    from neo_keras.generation.load import load_engine

    results, prefill, decode = {}, {}, {}
    for num_threads in (2, 1):
        load_seconds, (engine, _) = _timed(load_engine, path, num_threads)
        prompt = [0] * (engine.max_seq_len // 2 + 1)  # prefill takes all but the last
        prefill[str(num_threads)] = round((len(prompt) - 1) / _median_seconds(engine.begin, prompt))
        decode[str(num_threads)] = round(
            engine.max_seq_len / _median_seconds(_decode_context, engine)
        )
        if num_threads == 2:
            results["load_seconds"] = round(load_seconds, 4)
            results["peak_memory_bytes"] = _peak_memory_bytes()
            if engine.num_speculative_tokens:
                results["drafting"] = _time_drafting(engine)
    results["prefill_tokens_per_second"] = prefill
    results["decode_tokens_per_second"] = decode
    print(json.dumps(results))


def _median_seconds(function, *args):
    seconds = []
    while len(seconds) < REPEATS and sum(seconds) < MAX_SECONDS:
        seconds.append(_timed(function, *args)[0])
    return statistics.median(seconds)


def _timed(function, *args):
    begin = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - begin, result


def _decode_context(engine):
    engine.begin([0])
    for _ in range(engine.max_seq_len):
        engine.decode(0)


def _time_drafting(engine):
    """Of texts as long as the context, at a temperature of 0.8."""
    num_tokens, total_seconds, num_steps = engine.max_seq_len - 1, 0.0, 0
    for seed in range(REPEATS):
        token_ids = generate_ids(engine, [0], Sampler(0.8), seed)
        seconds, _ = _timed(list, itertools.islice(token_ids, num_tokens))
        total_seconds += seconds
        num_steps += num_tokens - engine.num_accepted
    return {
        "tokens_per_second": round(REPEATS * num_tokens / total_seconds),
        "tokens_per_step": round(REPEATS * num_tokens / num_steps, 2),
    }


def _peak_memory_bytes():
    status = pathlib.Path("/proc/self/status")
    if not status.exists():  # not Linux
        return None
    return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main(sys.argv[1])
