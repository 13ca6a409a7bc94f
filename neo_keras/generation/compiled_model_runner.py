"""Runs a `.tflite` file in LiteRT's CompiledModel, the fastest way; imports no TensorFlow."""

import functools

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment
from ai_edge_litert.options import CpuOptions, Options

from neo_keras.generation.artifact import mapped
from neo_keras.generation.engine import RESULTS, Runner
from neo_keras.generation.flatbuffer import IN_PLACE, in_place_functions, keep_first_signatures
from neo_keras.native_logs import hide_native_farewell, native_log_hidden

INPUTS = ("tokens", "input_pos", "noise")  # of which each signature has a buffer of its own
STEP = 64  # slots by which a cache grows at least


class CompiledModelRunner(Runner):
    """Runs the signatures whose KV cache is the caller's, in memory that grows with the text.

    An input and an output of the cache are one buffer, so that a step writes its slots and copies
    nothing. A step costs what the text so far costs, not what the context might.
    """

    def __init__(self, path, config, num_threads=2):
        super().__init__({name: IN_PLACE.format(name) for name in in_place_functions(config)})
        self._max_seq_len = config.max_seq_len
        self._widths = {"logits": config.vocab_size, "drafts": config.num_speculative_tokens}
        # LiteRT goes on reading in it.
        self._content = keep_first_signatures(mapped(path), len(self.functions))
        options = Options(cpu_options=CpuOptions(num_threads=num_threads))
        hide_native_farewell()
        with native_log_hidden():
            self._model = CompiledModel.from_buffer(
                self._content, environment=_environment(), options=options
            )
            self._make_buffers()
            self._grow(next_capacity(0, 1, self._max_seq_len))

    def reset(self):
        self._capacity = 0

    def run(self, name, **inputs):
        needed = int(inputs["input_pos"][-1]) + 1
        if needed > self._capacity:
            self._grow(next_capacity(self._capacity, needed, self._max_seq_len))
        own = self._own[name]
        for key, values in inputs.items():
            own[key].write(values)
        self._model.run_by_index(*self._arguments[name])
        seq_len = len(inputs["input_pos"])
        return {
            key: own[key].read(seq_len * width, RESULTS[key]).reshape(seq_len, width)
            for key, width in self._widths.items()
            if key in own
        }

    def _make_buffers(self):
        """Those that do not grow."""
        model, self._own, self._cache, self._capacity = self._model, {}, {}, 0
        self._names = model.get_signature_list()
        for name, signature in self.functions.items():
            inputs = {*INPUTS} & {*self._names[signature]["inputs"]}
            outputs = RESULTS.keys() & {*self._names[signature]["outputs"]}
            own = {key: model.create_input_buffer_by_name(signature, key) for key in inputs}
            own |= {key: model.create_output_buffer_by_name(signature, key) for key in outputs}
            self._own[name] = own
        details = model.get_input_tensor_details(self.functions["decode"])
        shapes = {name: details[name]["shape"] for name in details if name.startswith("kv_cache")}
        self._growing = {name: shape for name, shape in shapes.items() if len(shape) == 4}
        for name in shapes.keys() - self._growing.keys():  # the tokens themselves
            self._fill(name, np.zeros(shapes[name], "int32"))

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
        self._arguments = {name: self._arguments_of(name) for name in self.functions}

    def _resize(self, name, values):
        if name in self._cache:
            self._cache[name].destroy()
        for signature in self.functions.values():
            self._model.resize_input_tensor_by_name(signature, name, values.shape)
        self._fill(name, values)

    def _fill(self, name, values):
        decode = self.functions["decode"]
        self._cache[name] = self._model.create_input_buffer_by_name(decode, name)
        self._cache[name].write(values)

    def _arguments_of(self, name):
        """Of `run_by_index`: (index of the signature, input buffers, output buffers)."""
        names, buffers = self._names[self.functions[name]], {**self._cache, **self._own[name]}
        inputs, outputs = ([buffers[key] for key in names[form]] for form in ("inputs", "outputs"))
        return self._model.get_signature_index(self.functions[name]), inputs, outputs


@functools.cache  # to the end of the process: LiteRT says on stderr that it closes one
def _environment():
    return Environment.create()


def next_capacity(capacity, needed, limit):
    """How many slots a cache gets that has too few: at least `needed`, at most `limit`."""
    # All slots take part in every step, so few should be to spare; but growing takes the time of
    # some steps, and longer the more there are.
    grown = max(needed, capacity + capacity // 4)
    return min(-(-grown // STEP) * STEP, limit)
