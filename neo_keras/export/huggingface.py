"""A folder that `from_pretrained` of Hugging Face's transformers opens."""

from neo_keras.export import portable
from neo_keras.weights.conversion import target_of
from neo_keras.weights.huggingface import write_folder


def check_config(config):
    target_of(config, "huggingface")


def write(source, path, quantization):
    """Writes a folder and measures it; see `formats.Format`."""
    return portable.write("huggingface", write_folder, source, path, quantization)
