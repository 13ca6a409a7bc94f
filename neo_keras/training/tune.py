"""Chooses the compiler and the precision that are fastest here: measured once, then remembered."""

import contextlib
import dataclasses
import hashlib
import json
import math
import operator
import time

import tensorflow as tf

from neo_keras import __version__
from neo_keras.atomic_files import parse_json, write_json
from neo_keras.environment import cache_directory, cpu_name
from neo_keras.training.compute import describe_compute
from neo_keras.training.estimate import count_operations
from neo_keras.training.resolve import has_fast_bfloat16, is_small
from neo_keras.training.train_step import make_train_step

# A training is worth a measurement if it takes a minute at this speed of a core.
MIN_SECONDS, OPERATIONS_PER_SECOND = 60, 50e9
MAX_SECONDS, MAX_SHARE = 15, 0.01  # that a measurement may cost; of a long training, its share
XLA_COMPILE_RATIO = 1.5  # how many times as long as TensorFlow XLA takes to compile, at most
TIMED_SECONDS = 0.5

# What the time of a step depends on, beside the model and what is chosen here.
STEP_FIELDS = ("batch_size", "gradient_accumulation_steps", "cpu_replicas", "optimizer",
               "num_future_tokens", "clip_norm", "ema", "remat", "lora_rank",
               "lora_targets", "document_mask")  # fmt: skip
# (jit_compile, mixed_precision). XLA gains nothing from bfloat16.
CANDIDATES = (False, "float32"), (False, "bfloat16"), (True, "float32")


def tune(model_config, asked, config, machine, make_training, say=print):
    """Chooses what `asked` leaves open; measures where that pays and nothing is known yet.

    Args:
        asked: `TrainingConfig`, in which None is open.
        config: the same as `resolve` filled it in: what stands where nothing is measured.
        make_training: makes a dataset of (batch_size, seed, steps); see `dataset_makers`.
        say: is called with a line for people before a measurement.

    Returns:
        (`TrainingConfig`, compiled `TrainStep`, dict: milliseconds of a step).
        The keys of the dict are what `describe_compute` returns.
    """
    candidates, milliseconds = [config], {}
    nominal_seconds = _nominal_seconds(model_config, config, machine)
    if nominal_seconds >= MIN_SECONDS:
        candidates += _others(asked, config, machine)
    if len(candidates) > 1:
        path = _cache_path(model_config, asked, config)
        milliseconds = _remembered(path)
        if not milliseconds:
            say("measuring once which kernels are fastest here: some 20 seconds")
            dataset = make_training(config.global_batch_size, config.seed, config.steps)
            max_seconds = max(MAX_SECONDS, MAX_SHARE * nominal_seconds)
            fastest, milliseconds = _measure(model_config, candidates, dataset, max_seconds)
            with contextlib.suppress(OSError):  # then it is measured again next time
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, milliseconds)
            return *fastest, milliseconds
        known = [c for c in candidates if describe_compute(c) in milliseconds]
        config = min(known, key=lambda c: milliseconds[describe_compute(c)], default=config)
    return config, make_train_step(model_config, config), milliseconds


def _nominal_seconds(model_config, config, machine):
    """Of a training on this CPU; 0 where a rule chooses: two large models need too much memory."""
    if machine.device != "CPU" or machine.num_devices or not is_small(model_config):
        return 0
    operations = config.steps * count_operations(model_config, config)
    return operations / (OPERATIONS_PER_SECOND * machine.num_cores)


def _others(asked, config, machine):
    """The candidates beside `config` that `asked` allows."""
    rows = [row for row in CANDIDATES if row[1] == "float32" or has_fast_bfloat16(machine)]
    allowed = [
        dataclasses.replace(config, jit_compile=jit_compile, mixed_precision=precision)
        for jit_compile, precision in rows
        if asked.jit_compile in (None, jit_compile) and asked.mixed_precision in (None, precision)
    ]
    return [candidate for candidate in allowed if candidate != config]


def _cache_path(model_config, asked, config):
    """A file for all runs on such a CPU whose steps take the same time."""
    settings = [getattr(config, name) for name in STEP_FIELDS]
    settings += asked.jit_compile, asked.mixed_precision
    key = cpu_name(), tf.__version__, __version__, dataclasses.asdict(model_config), settings
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    return cache_directory() / "kernels" / f"{name}.json"


def _remembered(path):
    try:
        known = dict(parse_json(path.read_text(encoding="utf-8")))
        return {str(name): float(value) for name, value in known.items()}
    except (OSError, ValueError, TypeError):  # it is missing or damaged
        return {}


def _measure(model_config, candidates, dataset, max_seconds):
    """((config, train_step) of the fastest candidate, milliseconds of all that were measured)."""
    fastest, milliseconds, compile_seconds = (math.inf, None, None), {}, 0.0
    for config in candidates:
        ratio = XLA_COMPILE_RATIO if config.jit_compile else 1
        if milliseconds and ratio * compile_seconds > max_seconds:
            continue
        train_step = make_train_step(model_config, config)
        compile_seconds, seconds = _time_step(train_step, dataset)
        milliseconds[describe_compute(config)] = round(1000 * seconds, 3)
        fastest = min(fastest, (seconds, config, train_step), key=operator.itemgetter(0))
    return fastest[1:], milliseconds


def _time_step(train_step, dataset):
    """(seconds that compilation takes, seconds of a step); leaves the training where it was."""
    variables = train_step.variables + train_step.optimizer.variables
    values = [variable.numpy() for variable in variables]
    train_step.make_train_function()

    def seconds(num_steps):
        batches = iter(dataset.take(num_steps))
        begin = time.perf_counter()
        train_step.train_function(batches)
        return time.perf_counter() - begin

    compile_seconds, first = seconds(1), seconds(1)
    # A call takes no more than these.
    num_steps = min(max(int(TIMED_SECONDS / first), 1), train_step.steps_per_execution)
    step_seconds = min(seconds(num_steps) for _ in range(2)) / num_steps
    for variable, value in zip(variables, values):
        variable.assign(value)
    train_step.reset_metrics()
    return compile_seconds, step_seconds
