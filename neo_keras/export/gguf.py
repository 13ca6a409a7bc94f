"""A GGUF file, for llama.cpp and what is built on it, such as ollama."""

import functools

from neo_keras.export import portable
from neo_keras.export.quantization import QUANTIZATIONS
from neo_keras.weights.conversion import target_of
from neo_keras.weights.gguf import write_gguf


def check_config(config):
    target_of(config, "gguf")


def write(source, path, quantization):
    """Writes a file and measures it; see `formats.Format`."""
    write_file = functools.partial(write_gguf, stored_as=QUANTIZATIONS[quantization].gguf)
    return portable.write("gguf", write_file, source, path, quantization)
