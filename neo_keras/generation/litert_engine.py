"""Decodes with a `.tflite` file on LiteRT. Imports no TensorFlow: all that a small device needs."""

import functools
import pathlib

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.environment import Environment
from ai_edge_litert.options import CpuOptions, Options

from neo_keras.generation.engine import (
    IN_PLACE_SIGNATURES,
    VERIFY_SIGNATURE,
    Engine,
    in_place_signatures,
)
from neo_keras.generation.flatbuffer import (
    check_decoder,
    keep_first_signatures,
    loading,
    read_signatures,
)
from neo_keras.native_logs import hide_native_farewell, native_log_hidden

DECODE, PREFILL = IN_PLACE_SIGNATURES
OWN = {"tokens", "input_pos", "noise", "logits", "drafts"}  # what signatures do not share
STEP = 64  # slots by which a cache grows at least


class LiteRTEngine(Engine):
    """Decodes with the signatures of `export.in_place`.

    An input and an output of the cache are one buffer, so that a step writes its slots and copies
    nothing. The buffers grow with the text: a step costs what the text so far costs, not what the
    context might.

    Args:
        path: of the `.tflite` file.
        model_config: `ModelConfig`.
        num_threads: for the arithmetic.

    Raises:
        InputError: LiteRT cannot load the file, or its signatures are not ours.
    """

    def __init__(self, path, model_config, num_threads=2):
        content = pathlib.Path(path).read_bytes()
        self.num_speculative_tokens, self.vocab_size = (
            model_config.num_speculative_tokens,
            model_config.vocab_size,
        )
        self._signatures = in_place_signatures(model_config)
        with loading(path):
            check_decoder(read_signatures(content), path, model_config)
            content = keep_first_signatures(content, len(self._signatures))
            self._content = content  # LiteRT goes on reading in it
            hide_native_farewell()
            with native_log_hidden():
                self._load(content, num_threads)
                self._grow(next_capacity(0, 1, model_config.max_seq_len))
        chunk_size = self._model.get_input_tensor_details(PREFILL)["tokens"]["shape"][1]
        super().__init__(model_config.max_seq_len, chunk_size)

    def reset(self):
        super().reset()
        self._capacity = 0

    def _prefill(self, tokens, input_pos):
        self._run(PREFILL, tokens, input_pos)

    def _decode(self, tokens, input_pos):
        self._run(DECODE, tokens, input_pos)
        return self._buffers[DECODE, "logits"].read(self.vocab_size, np.float32)

    def _verify(self, tokens, input_pos, noise):
        self._buffers[VERIFY_SIGNATURE, "noise"].write(noise)
        self._run(VERIFY_SIGNATURE, tokens, input_pos)
        num_tokens = tokens.size
        logits, drafts = (self._buffers[VERIFY_SIGNATURE, name] for name in ("logits", "drafts"))
        return (
            logits.read(num_tokens * self.vocab_size, np.float32).reshape(num_tokens, -1),
            drafts.read(num_tokens * self.num_speculative_tokens, np.int32).reshape(num_tokens, -1),
        )

    def _run(self, signature, tokens, input_pos):
        needed = int(input_pos[-1]) + 1
        if needed > self._capacity:
            self._grow(next_capacity(self._capacity, needed, self.max_seq_len))
        self._buffers[signature, "tokens"].write(tokens)
        self._buffers[signature, "input_pos"].write(input_pos)
        self._model.run_by_index(*self._calls[signature])

    def _grow(self, capacity):
        """Gives the cache more slots; what it holds stays."""
        for name, shape in self._cache_shapes.items():
            values = np.zeros((*shape[:2], capacity, shape[3]), "float32")
            if self._capacity:
                held = values[:, :, : self._capacity]
                held[:] = self._buffers[name].read(held.size, np.float32).reshape(held.shape)
            self._replace(name, values)
        self._replace("key_positions", np.arange(capacity, dtype="int32"))
        self._capacity = capacity
        self._calls = {signature: self._call(signature) for signature in self._signatures}

    def _replace(self, name, values):
        """Makes a buffer of another shape."""
        if name in self._buffers:
            self._buffers[name].destroy()
        for signature in self._signatures:
            index = self._names[signature]["inputs"].index(name)
            signature_index = self._model.get_signature_index(signature)
            self._model.resize_input_tensor(index, values.shape, signature_index)
        self._add_buffer(name, values)

    def _call(self, signature):
        """The arguments of `run_by_index`."""
        inputs, outputs = (
            [self._buffers.get((signature, name)) or self._buffers[name] for name in names]
            for names in (self._names[signature]["inputs"], self._names[signature]["outputs"])
        )
        return self._model.get_signature_index(signature), inputs, outputs

    def _load(self, content, num_threads):
        options = Options(cpu_options=CpuOptions(num_threads=num_threads))
        self._model = CompiledModel.from_buffer(
            content, environment=_environment(), options=options
        )
        self._names = self._model.get_signature_list()
        self._capacity = 0
        # By name; what each signature has of its own by (signature, name): that does not grow.
        self._buffers = {}
        for signature in self._signatures:
            for form, create in (
                ("inputs", self._model.create_input_buffer_by_name),
                ("outputs", self._model.create_output_buffer_by_name),
            ):
                for name in OWN.intersection(self._names[signature][form]):
                    self._buffers[signature, name] = create(signature, name)
        details = self._model.get_input_tensor_details(DECODE)
        shapes = {name: details[name]["shape"] for name in details if name.startswith("kv_cache")}
        self._cache_shapes = {name: shape for name, shape in shapes.items() if len(shape) == 4}
        for name in shapes.keys() - self._cache_shapes.keys():  # the tokens themselves
            self._add_buffer(name, np.zeros(shapes[name], "int32"))

    def _add_buffer(self, name, values):
        self._buffers[name] = self._model.create_input_buffer_by_name(DECODE, name)
        self._buffers[name].write(values)


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
