"""Runs an exported SavedModel, without the code that made it."""

import tensorflow as tf

from neo_keras.atomic_files import plainly_named
from neo_keras.errors import InputError
from neo_keras.generation.engine import Runner
from neo_keras.generation.saved_model_graph import check_operations


class SavedModelRunner(Runner):
    """Runs the signatures of a SavedModel.

    Args:
        path: directory of the SavedModel.

    Raises:
        InputError: it is damaged, or would run what no exported model runs.
    """

    def __init__(self, path):
        check_operations(path)
        try:
            with plainly_named(path) as name:
                self._loaded = tf.saved_model.load(name)  # its signatures do not keep it alive
        # What a damaged one raises depends on where the damage is.
        except Exception as error:
            raise InputError(f"TensorFlow cannot load {path} ({error}): export it again") from None
        self._signatures = self._loaded.signatures
        self.names = set(self._signatures)
        _, specs = self._signatures["decode"].structured_input_signature
        self.cache = {
            name: tf.zeros((1, *spec.shape[1:]), spec.dtype)
            for name, spec in specs.items()
            if name.startswith("kv_cache")
        }

    def run(self, name, **inputs):
        inputs = {name: tf.constant(value) for name, value in inputs.items()}
        cache = {} if name == "encode" else self.cache
        return self._keep_cache(dict(self._signatures[name](**inputs, **cache)))
