"""Decodes with a Keras model."""

import keras

from neo_keras.generation.engine import Engine, chunk_size_for


class KerasEngine(Engine):
    """Decodes with a model that may still be in training.

    Args:
        model: `GPT`.
    """

    def __init__(self, model):
        max_seq_len = model.config.max_seq_len
        super().__init__(max_seq_len, chunk_size_for(max_seq_len))
        self._step = _compiled(model.step)
        self._cache = model.empty_cache()

    def _prefill(self, tokens, input_pos):
        _, self._cache = self._step(tokens, input_pos, self._cache)

    def _decode(self, tokens, input_pos):
        logits, self._cache = self._step(tokens, input_pos, self._cache)
        return keras.ops.convert_to_numpy(logits)[0, -1]


def _compiled(step):
    """A graph of the step where the backend is TensorFlow; elsewhere it runs eagerly."""
    if keras.backend.backend() != "tensorflow":
        return step
    import tensorflow as tf

    return tf.function(step)
