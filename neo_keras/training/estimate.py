"""What a training is about to take on this machine: memory, and seconds of a step."""

import dataclasses
import importlib.util
import math
import time

import tensorflow as tf

from neo_keras.training import flops
from neo_keras.training.flops import FLOAT32
from neo_keras.training.inputs import validation_rows

MB = 10**6
# Of a process that trains, apart from tensors: (in all, for each block), in bytes. The rest of a
# block's is its graph, and what XLA's compiler needs for it. Measured on tiny models of 2 and 12
# blocks, with TensorFlow 2.21.
PROCESS_BYTES = {"xla": (870 * MB, 37 * MB), "tensorflow": (680 * MB, 18 * MB)}
MAX_TOKENS = 4096  # in a product that is timed: more do not change its speed
MAX_NUMBERS = 2**23  # in any other operation


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a step relates to the operations that `measure_machine` times.

    Fitted once, on two cores of an AMD EPYC (`benchmarks/estimates.py`), as whole numbers would do.

    Attributes:
        product_share: of the speed of a single product that those of a step reach.
        passes: times that each byte kept for the backward pass is worked on in a step.
        dropout_passes: draws for each number that dropout decides about: XLA draws more slowly,
            and again in the backward pass.
        optimizer_numbers: read or written for each weight. Without XLA each small operation of
            the optimizer is a pass of its own; with XLA there is one.
    """

    product_share: float
    passes: float
    dropout_passes: float
    optimizer_numbers: float


EXECUTIONS = {"tensorflow": Execution(1.0, 12, 1, 35), "xla": Execution(0.9, 8, 4, 7)}
# Parts of a batch side by side take longer than one by itself: they share caches and memory.
SIDE_BY_SIDE = 1.1


@dataclasses.dataclass(frozen=True)
class Machine:
    """What this machine reaches at the shapes of a run, in single operations.

    Attributes:
        product_rate: FLOP/s of the products with weights.
        attention_rate: FLOP/s of the products of attention.
        activation_rate: bytes/s that go into and come out of an operation on activations.
        dropout_rate: numbers/s that dropout decides about.
        weight_rate: bytes/s that go into and come out of an operation on weights.
    """

    product_rate: float
    attention_rate: float
    activation_rate: float
    dropout_rate: float
    weight_rate: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a training takes.

    Attributes:
        num_params: weights of the model.
        memory_bytes: of the process at its peak or, on a GPU or XPU, of the device.
        seconds_per_step: once it is compiled.
        seconds: of all steps that are left.
    """

    num_params: int
    memory_bytes: int
    seconds_per_step: float
    seconds: float

    def __str__(self):
        return (
            f"about {_amount(self.num_params)} parameters, {self.memory_bytes / 1e9:.1f} GB, "
            f"{_duration(self.seconds_per_step)} a step, {_duration(self.seconds)} on this machine"
        )


def estimate_training(config, training, steps):
    """Measures the machine for a third of a second and estimates from that.

    Args:
        config: `ModelConfig`.
        training: `TrainingConfig` that leaves nothing open.
        steps: that are left.

    Returns:
        `Estimate`.
    """
    on_device = any(map(tf.config.get_visible_devices, ("GPU", "XPU")))
    memory = memory_parts(config, training, on_device)
    seconds = seconds_per_step(config, training, measure_machine(config, training))
    return Estimate(
        num_params=flops.count_weights(config).total,
        memory_bytes=sum(memory.values()),
        seconds_per_step=seconds,
        seconds=min(steps * seconds, training.max_seconds or math.inf),
    )


def memory_parts(config, training, on_device=False):
    """Where the memory of a training goes at its peak.

    TensorFlow keeps memory once it had it, so a checkpoint, which is written from a copy in memory,
    comes on top of the largest of the phases: the backward pass, the update, or a validation.

    Args:
        config: `ModelConfig`.
        training: `TrainingConfig` that leaves nothing open.
        on_device: count what is in the memory of a GPU or XPU only.

    Returns:
        dict of what for: bytes.
    """
    size, rows = _number_size(training), training.batch_size
    weights = FLOAT32 * flops.count_weights(config).total
    optimizer = flops.optimizer_bytes(config, training.optimizer, training.ema > 0)
    if training.remat:
        activations = flops.block_input_bytes(config, rows, size)
        activations += flops.activation_bytes(config, rows, size, layers=1)
    else:
        activations = flops.activation_bytes(config, rows, size)
    # In the backward pass of a block there are, besides, the gradients of what it kept.
    activations += flops.activation_bytes(config, rows, size, layers=1)
    backward = {
        "activations": activations,
        "logits": flops.logits_bytes(config, rows, size) * _predictions(training),
        "weight copies": flops.weight_copy_bytes(config, size),
        "summed gradients": weights if training.gradient_accumulation_steps > 1 else 0,
    }
    update = {"gradients": weights * (2 if training.clip_norm else 1)}  # and clipped ones
    if training.cpu_replicas > 1:
        update["gradients of parts"] = weights * training.cpu_replicas
    validation_batch = validation_rows(training)
    validation = {"validation": flops.validation_bytes(config, validation_batch, size)}
    phases = backward, update, validation
    state = {"weights": weights, "optimizer": optimizer}
    parts = state | max(phases, key=lambda phase: sum(phase.values()))
    if on_device:
        return parts
    base, per_block = PROCESS_BYTES[_execution_name(training)]
    process = base + round(per_block * flops.num_blocks(config))
    return {"process": process, **parts, "checkpoint": _checkpoint_copy_bytes(weights + optimizer)}


def _predictions(training):
    """How many tokens each position predicts in training."""
    return 1 + (training.num_future_tokens or 0)


def _checkpoint_copy_bytes(size):
    """Without psutil, Keras does not know of more than a gigabyte of room, and takes half of it."""
    return size if size < 2**29 or importlib.util.find_spec("psutil") else 0


def seconds_per_step(config, training, machine):
    """Products, element-wise work, dropout and the optimizer, one after the other.

    Args:
        config: `ModelConfig`.
        training: `TrainingConfig` that leaves nothing open.
        machine: `Machine`.
    """
    execution = update = EXECUTIONS[_execution_name(training)]
    size, rows = _number_size(training), training.global_batch_size
    tokens = rows * config.max_seq_len
    weights = flops.count_weights(config)
    forwards = 4 / 3 if training.remat else 1  # of three passes as long, the first comes twice
    num_ahead = (_predictions(training) - 1) * config.vocab_size * config.hidden_dim
    product_flops = 6 * (weights.num_in_products * forwards + num_ahead) * tokens
    if training.optimizer == "muon":
        product_flops += flops.newton_schulz_flops(config)
    products = product_flops / machine.product_rate
    products += flops.attention_flops_per_token(config) * tokens * forwards / machine.attention_rate
    # Logits of tokens further ahead cost next to nothing: a step is 4% longer with three.
    kept = flops.activation_bytes(config, rows, size) + flops.logits_bytes(config, rows, size)
    draws = flops.num_dropout_draws(config, rows)
    if training.cpu_replicas > 1:  # the optimizer is compiled with the rest, or not at all
        update = EXECUTIONS["tensorflow"]
    optimizer_bytes = FLOAT32 * weights.total * update.optimizer_numbers
    seconds = (
        products / execution.product_share
        + execution.passes * kept / machine.activation_rate
        + execution.dropout_passes * draws / machine.dropout_rate
        + optimizer_bytes / machine.weight_rate
    )
    if training.cpu_replicas == 1:
        return seconds
    return (
        SIDE_BY_SIDE * seconds / training.cpu_replicas
    )  # the machine was measured with a part's cores


def measure_machine(config, training):
    """Times a few operations of the run's own shapes and dtype, through TensorFlow's kernels.

    Args:
        config: `ModelConfig`.
        training: `TrainingConfig` that leaves nothing open.

    Returns:
        `Machine`.
    """
    dtype, rows = tf.as_dtype(training.mixed_precision), training.batch_size
    seq_len, width, wide = config.max_seq_len, config.hidden_dim, config.feed_forward_dim
    few = max(1, min(rows, MAX_TOKENS // seq_len))
    x, kernel = tf.ones((few * seq_len, width), dtype), tf.ones((width, wide), dtype)
    heads = tf.ones((few, config.num_heads, seq_len, config.head_dim), dtype)
    activations = tf.ones((min(rows * seq_len * wide, MAX_NUMBERS),), dtype)
    weights = tf.ones((min(flops.count_weights(config).total, MAX_NUMBERS),))
    dropout = tf.nn.experimental.stateless_dropout

    def rate(amount, operation, *args, **settings):
        return amount / _best_seconds(lambda: operation(*args, **settings))

    # A core that did nothing before takes a while to be fast: here, up to three times.
    _best_seconds(lambda: tf.matmul(x, kernel), budget=0.2)

    def bytes_moved(numbers):  # two go in, one comes out
        return 3 * numbers.dtype.size * numbers.shape[0]

    return Machine(
        product_rate=rate(2 * few * seq_len * width * wide, tf.matmul, x, kernel),
        attention_rate=rate(
            2 * few * seq_len**2 * width, tf.matmul, heads, heads, transpose_b=True
        ),
        activation_rate=rate(bytes_moved(activations), tf.multiply, activations, activations),
        dropout_rate=rate(activations.shape[0], dropout, activations, 0.1, seed=(1, 2))
        if config.dropout
        else math.inf,
        weight_rate=rate(bytes_moved(weights), tf.multiply, weights, weights),
    )


def _best_seconds(operation, budget=0.02):
    """Of a call, where a few are timed; so many at a time that starting them counts little."""
    begin, times, calls = time.perf_counter(), [], 1
    while len(times) < 3 or time.perf_counter() - begin < budget:
        start = time.perf_counter()
        for _ in range(calls):
            result = operation()
        tf.reshape(result, [-1])[0].numpy()  # waits for a device
        times.append((time.perf_counter() - start) / calls)
        calls = max(1, round(0.002 / min(times)))
    return min(times)


def _number_size(training):
    return FLOAT32 if training.mixed_precision == "float32" else 2


def _execution_name(training):
    return "xla" if training.jit_compile else "tensorflow"


def _amount(number):
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.{0 if number >= 100 * size else 1}f}{letter}"
    return str(number)


def _duration(seconds):
    if seconds < 0.9995:
        return f"{max(seconds * 1000, 1):.0f} ms"
    for size, name, at_least in ((86400, "days", 2), (3600, "hours", 2), (60, "minutes", 2)):
        if seconds >= at_least * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {name}"
    return f"{seconds:.{0 if seconds >= 10 else 1}f} s"
