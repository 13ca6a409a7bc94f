"""Decodes with a Keras model."""

import keras

from neo_keras.generation.engine import EncoderDecoderEngine, Engine, chunk_size_for


class KerasEngine(Engine):
    """Decodes with a model that may still be in training.

    Args:
        model: `GPT`.
        drafts: let it read ahead, if its drafter has learned.
    """

    def __init__(self, model, drafts=False):
        max_seq_len = model.config.max_seq_len
        super().__init__(max_seq_len, chunk_size_for(max_seq_len))
        self.num_speculative_tokens, self.vocab_size = (
            drafts * model.config.num_speculative_tokens,
            model.config.vocab_size,
        )
        self._step, self._step_ahead = _compiled(model.step), _compiled(model.verify)
        self._cache = model.empty_cache()

    def _prefill(self, tokens, input_pos):
        _, self._cache = self._step(tokens, input_pos, self._cache)

    def _decode(self, tokens, input_pos):
        logits, self._cache = self._step(tokens, input_pos, self._cache)
        return keras.ops.convert_to_numpy(logits)[0, -1]

    def _verify(self, tokens, input_pos, noise):
        logits, drafts, self._cache = self._step_ahead(tokens, input_pos, self._cache, noise)
        return keras.ops.convert_to_numpy(logits)[0], keras.ops.convert_to_numpy(drafts)[0]


class KerasEncoderDecoderEngine(EncoderDecoderEngine):
    """The same with an encoder.

    Args:
        model: `EncoderDecoder`.
    """

    def __init__(self, model):
        super().__init__(model.config)
        self._step, self._read = _compiled(model.step), _compiled(model.encode)
        self._cache = model.empty_cache()

    def _encode(self, tokens, source_lens):
        self._cache = {**self._cache, **self._read(tokens, source_lens)}

    def _decode(self, tokens, input_pos):
        logits, self._cache = self._step(tokens, input_pos, self._cache)
        return keras.ops.convert_to_numpy(logits)[0, -1]


def keras_engine(model, drafts=False):
    """The engine for a model: `KerasEngine` or `KerasEncoderDecoderEngine`."""
    if model.config.architecture == "decoder-only":
        return KerasEngine(model, drafts)
    return KerasEncoderDecoderEngine(model)


def _compiled(function):
    """A graph of it where the backend is TensorFlow; elsewhere it runs eagerly."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)
