"""Runs a `.tflite` file in LiteRT's Interpreter, on every CPU; imports no TensorFlow."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from neo_keras.generation.engine import Runner
from neo_keras.native_logs import native_log_hidden


class InterpreterRunner(Runner):
    """Runs signatures whose KV cache lives in variables of the file, or goes in and comes out.

    It takes more time and memory than `CompiledModelRunner`, which no CPU of the ARMv8.0 runs.

    Args:
        path: of the `.tflite` file.
        num_threads: for the arithmetic.
        signature_of: function of (name of a function, its inputs) that returns the name of the
            signature to run.
    """

    def __init__(self, path, num_threads=2, signature_of=lambda name, inputs: name):
        with native_log_hidden():
            interpreter = Interpreter(str(path), num_threads=num_threads)
            interpreter.allocate_tensors()
        self._signature_of = signature_of
        self.names = set(interpreter.get_signature_list())
        self._signatures = {name: interpreter.get_signature_runner(name) for name in self.names}
        # What an engine does not give: an empty cache, and settings of a sampler.
        self._zeros = {name: _zeros(signature) for name, signature in self._signatures.items()}
        decode = self._zeros.get("decode", {})
        self.cache = {name: x for name, x in decode.items() if name.startswith("kv_cache")} or None

    def reset(self):
        if "reset" in self.names:
            self._signatures["reset"]()

    def run(self, name, **inputs):
        name = self._signature_of(name, inputs)
        inputs = {**self._zeros[name], **(self.cache or {}), **inputs}
        return self._keep_cache(self._signatures[name](**inputs))


def _zeros(signature):
    given = ("tokens", "input_pos", "source_lens")
    return {
        name: np.zeros(details["shape"], details["dtype"])
        for name, details in signature.get_input_details().items()
        if name not in given
    }
