"""Decodes with an exported SavedModel, without the code that made it."""

import numpy as np
import tensorflow as tf

from neo_keras.generation.engine import Engine, chunk_size_for


class SavedModelEngine(Engine):
    """Decodes with a SavedModel's `prefill` and `decode` signatures.

    Args:
        path: directory of the SavedModel.
        model_config: `ModelConfig`.
    """

    def __init__(self, path, model_config):
        super().__init__(model_config.max_seq_len, chunk_size_for(model_config.max_seq_len))
        self._loaded = tf.saved_model.load(str(path))  # the signatures only refer to it
        self._signatures = self._loaded.signatures
        shape = (1, model_config.num_kv_heads, model_config.max_seq_len, model_config.head_dim)
        self._cache = {
            f"kv_cache_{kind}_{i}": tf.zeros(shape)
            for i in range(model_config.num_layers)
            for kind in "kv"
        }

    def _prefill(self, tokens, input_pos):
        self._cache = self._run("prefill", tokens, input_pos)

    def _decode(self, tokens, input_pos):
        outputs = self._run("decode", tokens, input_pos)
        logits = outputs.pop("logits")
        self._cache = outputs
        return np.array(logits)[0, -1]

    def _run(self, signature, tokens, input_pos):
        inputs = {"tokens": tf.constant(tokens), "input_pos": tf.constant(input_pos), **self._cache}
        return dict(self._signatures[signature](**inputs))
