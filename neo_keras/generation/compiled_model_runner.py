"""Runs a `.tflite` file in LiteRT's CompiledModel, the fastest way; imports no TensorFlow."""

import functools
import pathlib

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment
from ai_edge_litert.options import CpuOptions, Options

from neo_keras.generation.engine import RESULTS, Runner
from neo_keras.generation.flatbuffer import IN_PLACE, in_place_functions, keep_first_signatures
from neo_keras.native_logs import hide_native_farewell, native_log_hidden

INPUTS = ("tokens", "input_pos", "noise")  # what each signature has of its own
STEP = 64  # slots by which a cache grows at least


class CompiledModelRunner(Runner):
    """Runs the signatures whose KV cache is the caller's, in memory that grows with the text.

    An input and an output of the cache are one buffer, so that a step writes its slots and copies
    nothing. A step costs what the text so far costs, not what the context might.

    Args:
        path: of the `.tflite` file.
        config: `ModelConfig`.
        num_threads: for the arithmetic.
    """

    def __init__(self, path, config, num_threads=2):
        self.names = in_place_functions(config)
        self._max_seq_len = config.max_seq_len
        self._widths = {"logits": config.vocab_size, "drafts": config.num_speculative_tokens}
        # LiteRT goes on reading in it.
        self._content = keep_first_signatures(pathlib.Path(path).read_bytes(), len(self.names))
        hide_native_farewell()
        with native_log_hidden():
            self._load(num_threads)
            self._grow(next_capacity(0, 1, self._max_seq_len))

    def reset(self):
        self._capacity = 0

    def run(self, name, **inputs):
        needed = int(inputs["input_pos"][-1]) + 1
        if needed > self._capacity:
            self._grow(next_capacity(self._capacity, needed, self._max_seq_len))
        writes, arguments, reads = self._calls[name]
        for key, values in inputs.items():
            writes[key](values)
        self._model.run_by_index(*arguments)
        return {key: read(size, dtype).reshape(shape) for key, read, size, dtype, shape in reads}

    def _load(self, num_threads):
        options = Options(cpu_options=CpuOptions(num_threads=num_threads))
        self._model = CompiledModel.from_buffer(
            self._content, environment=_environment(), options=options
        )
        self._capacity, self._cache = 0, {}
        self._names = self._model.get_signature_list()
        self._own = {name: self._make_own(IN_PLACE.format(name)) for name in self.names}
        details = self._model.get_input_tensor_details(IN_PLACE.format("decode"))
        shapes = {name: details[name]["shape"] for name in details if name.startswith("kv_cache")}
        self._growing = {name: shape for name, shape in shapes.items() if len(shape) == 4}
        for name in shapes.keys() - self._growing.keys():  # the tokens themselves
            self._add_buffer(name, np.zeros(shapes[name], "int32"))

    def _make_own(self, signature):
        """What does not grow: (buffers by name, functions that write them, what to read)."""
        model, names = self._model, self._names[signature]
        inputs = {
            name: model.create_input_buffer_by_name(signature, name)
            for name in names["inputs"]
            if name in INPUTS
        }
        seq_len = model.get_input_tensor_details(signature)["tokens"]["shape"][1]
        outputs, reads = {}, []
        for name in set(names["outputs"]).intersection(RESULTS):
            outputs[name] = model.create_output_buffer_by_name(signature, name)
            shape = (seq_len, self._widths[name])
            reads.append((name, outputs[name].read, int(np.prod(shape)), RESULTS[name], shape))
        writes = {name: buffer.write for name, buffer in inputs.items()}
        return {**inputs, **outputs}, writes, reads

    def _grow(self, capacity):
        """Gives the cache more slots; what it holds stays."""
        for name, shape in self._growing.items():
            values = np.zeros((*shape[:2], capacity, shape[3]), "float32")
            if self._capacity:
                held = values[:, :, : self._capacity]
                held[:] = self._cache[name].read(held.size, np.float32).reshape(held.shape)
            self._resize(name, values)
        self._resize("key_positions", np.arange(capacity, dtype="int32"))
        self._capacity = capacity
        self._calls = {name: self._call(name) for name in self.names}

    def _resize(self, name, values):
        """Makes a buffer of another shape."""
        if name in self._cache:
            self._cache[name].destroy()
        for signature in map(IN_PLACE.format, self.names):
            index = self._names[signature]["inputs"].index(name)
            signature_index = self._model.get_signature_index(signature)
            self._model.resize_input_tensor(index, values.shape, signature_index)
        self._add_buffer(name, values)

    def _add_buffer(self, name, values):
        decode = IN_PLACE.format("decode")
        self._cache[name] = self._model.create_input_buffer_by_name(decode, name)
        self._cache[name].write(values)

    def _call(self, name):
        """What `run` needs: functions that write, arguments of `run_by_index`, what to read."""
        signature, (own, writes, reads) = IN_PLACE.format(name), self._own[name]
        buffers, names = {**self._cache, **own}, self._names[signature]
        inputs, outputs = ([buffers[n] for n in names[form]] for form in ("inputs", "outputs"))
        return writes, (self._model.get_signature_index(signature), inputs, outputs), reads


@functools.cache  # to the end of the process: LiteRT says on stderr that it closes one
def _environment():
    return Environment.create()


def next_capacity(capacity, needed, limit):
    """How many slots a cache gets that has become too small.

    All of them take part in every step, so few should be to spare; but growing takes the time of
    some steps, and longer the more there are.

    Args:
        capacity: slots that it has.
        needed: slots that it must have.
        limit: slots that it may have.
    """
    grown = max(needed, capacity + capacity // 4)
    return min(-(-grown // STEP) * STEP, limit)
