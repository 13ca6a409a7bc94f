"""Runs a `.tflite` file in LiteRT's Interpreter, on every CPU; imports no TensorFlow."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from neo_keras.generation.engine import Runner
from neo_keras.native_logs import native_log_hidden


def interpreter_runner(path, num_threads=2):
    """A `Runner` of all signatures; their cache lives in variables of the file, or goes in and out.

    It takes more time and memory than `CompiledModelRunner`, which no CPU of the ARMv8.0 runs.
    """
    with native_log_hidden():
        interpreter = Interpreter(str(path), num_threads=num_threads)
        interpreter.allocate_tensors()
    names = interpreter.get_signature_list()
    signatures = {name: interpreter.get_signature_runner(name) for name in names}
    # What an engine does not give: an empty cache, and settings of a sampler.
    zeros = {name: _zeros(signature) for name, signature in signatures.items()}

    def function(name):
        return lambda inputs, cache: signatures[name](**{**zeros[name], **(cache or {}), **inputs})

    decode = zeros.get("decode", {})
    cache = {name: x for name, x in decode.items() if name.startswith("kv_cache")}
    return Runner({name: function(name) for name in names}, cache or None)


def _zeros(signature):
    given = ("tokens", "input_pos", "source_lens")
    return {
        name: np.zeros(details["shape"], details["dtype"])
        for name, details in signature.get_input_details().items()
        if name not in given
    }
