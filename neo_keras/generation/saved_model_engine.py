"""Decodes with an exported SavedModel, without the code that made it."""

import tensorflow as tf

from neo_keras.errors import InputError
from neo_keras.generation.engine import FunctionalEngine, chunk_size_for


class SavedModelEngine(FunctionalEngine):
    """Decodes with a SavedModel's `prefill` and `decode` signatures.

    Args:
        path: directory of the SavedModel.
        model_config: `ModelConfig`.
    """

    def __init__(self, path, model_config):
        try:
            self._loaded = tf.saved_model.load(str(path))  # its signatures do not keep it alive
        # What a damaged one raises depends on where the damage is.
        except Exception as error:
            raise InputError(f"TensorFlow cannot load {path} ({error}): export it again") from None
        _, inputs = self._loaded.signatures["decode"].structured_input_signature
        cache = {
            name: tf.zeros((1, *spec.shape[1:]), spec.dtype)
            for name, spec in inputs.items()
            if name.startswith("kv_cache")
        }
        max_seq_len = model_config.max_seq_len
        super().__init__(max_seq_len, chunk_size_for(max_seq_len), "prefill", cache)

    def _call(self, signature, tokens, input_pos, cache):
        tokens, input_pos = tf.constant(tokens), tf.constant(input_pos)
        return dict(self._loaded.signatures[signature](tokens=tokens, input_pos=input_pos, **cache))
