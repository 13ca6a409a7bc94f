"""What a `.tflite` file costs its device: `python -m neo_keras.export.benchmark FILE`.

A process of its own for each file, with nothing of TensorFlow in it, as on a device.
"""

import itertools
import json
import pathlib
import subprocess
import sys
import time

from neo_keras.errors import FailedError
from neo_keras.generation.decoding import generate_ids
from neo_keras.generation.sampler import Sampler

MAX_PARTS = 8  # of the context, each timed by itself
REPEATS = 3


def run_benchmark(path):
    """Loads a file in a new process and times it there.

    Args:
        path: of a `.tflite` file.

    Returns:
        dict: `load_seconds`; `peak_memory_bytes` of the process, Python and NumPy included;
        `prefill_tokens_per_second` and `decode_tokens_per_second`, each by number of threads ("1"
        and "2"); `decode_by_position`, [first position of a part of the context, tokens/s with 2
        threads]. Of a model that drafts also `drafting`, with 2 threads: `tokens_per_second` of
        sampled text, and `tokens_per_step`.

    Raises:
        FailedError: the process ended early, as for want of memory.
    """
    command = [sys.executable, "-m", "neo_keras.export.benchmark", pathlib.Path(path).resolve()]
    package_parent = pathlib.Path(__file__).parents[2]
    # Ctrl-C is for this process alone, which then ends the other one and says so in one line.
    done = subprocess.run(
        command, cwd=package_parent, stdout=subprocess.PIPE, start_new_session=True
    )
    if done.returncode:
        raise FailedError(
            f"{path} was verified, but timing it ended with exit code {done.returncode}"
        )
    return json.loads(done.stdout)


def main(path):
    from neo_keras.generation.load import load_engine

    seconds, (engine, _) = _timed(load_engine, path)
    results = {"load_seconds": round(seconds, 4)}
    prefill, decode = {}, {}
    for num_threads in (2, 1):
        engine, _ = load_engine(path, num_threads)
        runs = sorted((_time_context(engine) for _ in range(REPEATS)), key=lambda run: sum(run[1]))
        prefill_seconds, part_seconds = runs[REPEATS // 2]  # the median
        part_len = engine.max_seq_len // len(part_seconds)
        prefill[str(num_threads)] = round(engine.max_seq_len // 2 / prefill_seconds)
        decode[str(num_threads)] = round(len(part_seconds) * part_len / sum(part_seconds))
        if num_threads == 2:
            results["decode_by_position"] = [
                [i * part_len, round(part_len / seconds)] for i, seconds in enumerate(part_seconds)
            ]
            results["peak_memory_bytes"] = _peak_memory_bytes()
            if engine.num_speculative_tokens:
                results["drafting"] = _time_drafting(engine)
    results["prefill_tokens_per_second"] = prefill
    results["decode_tokens_per_second"] = decode
    print(json.dumps(results))


def _timed(function, *args):
    begin = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - begin, result


def _time_context(engine):
    """(seconds to prefill half the context, seconds to decode each part of it)."""
    # An encoder reads it.
    prefill_seconds, _ = _timed(engine.begin, [0] * (engine.max_seq_len // 2 + 1))
    engine.begin([0])
    num_parts = min(MAX_PARTS, engine.max_seq_len)
    steps = range(engine.max_seq_len // num_parts)
    parts = (_timed(lambda: [engine.decode(0) for _ in steps]) for _ in range(num_parts))
    return prefill_seconds, [seconds for seconds, _ in parts]


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
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return None
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main(sys.argv[1])
