"""A SavedModel: for TensorFlow, without the code that made it."""

from neo_keras.atomic_files import plainly_named
from neo_keras.export import parity
from neo_keras.export.signatures import saved_model_signatures, write_signatures
from neo_keras.generation import artifact
from neo_keras.generation.engine import Engine
from neo_keras.generation.saved_model_runner import saved_model_runner


def write(source, path, quantization):
    """Writes a directory and measures it; see `formats.Format`."""
    path.mkdir()
    with plainly_named(path) as name:
        write_signatures(source, name, saved_model_signatures)
    config = source.model.config
    artifact.pack_saved_model(path, config, source.tokenizer)
    return parity.measure(Engine(saved_model_runner(path), config), source.reference)
