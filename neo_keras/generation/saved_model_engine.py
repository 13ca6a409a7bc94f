"""Decodes with an exported SavedModel, without the code that made it."""

import tensorflow as tf

from neo_keras.atomic_files import plainly_named
from neo_keras.errors import InputError
from neo_keras.generation.engine import EncoderDecoderEngine, FunctionalEngine, chunk_size_for
from neo_keras.generation.saved_model_graph import check_operations


class SavedModelEngine(FunctionalEngine):
    """Decodes with a SavedModel's `prefill` and `decode` signatures.

    Args:
        path: directory of the SavedModel.
        model_config: `ModelConfig`.
    """

    def __init__(self, path, model_config):
        self._loaded = _load(path)  # its signatures do not keep it alive
        max_seq_len = model_config.max_seq_len
        cache = _empty_cache(self._loaded)
        super().__init__(max_seq_len, chunk_size_for(max_seq_len), "prefill", cache)

    def _call(self, signature, tokens, input_pos, cache):
        tokens, input_pos = tf.constant(tokens), tf.constant(input_pos)
        return dict(self._loaded.signatures[signature](tokens=tokens, input_pos=input_pos, **cache))


class SavedModelEncoderDecoderEngine(EncoderDecoderEngine):
    """Decodes with a SavedModel's `encode` and `decode` signatures.

    Args:
        as `SavedModelEngine`.
    """

    def __init__(self, path, model_config):
        super().__init__(model_config)
        self._loaded = _load(path)
        self._cache = _empty_cache(self._loaded)

    def _encode(self, tokens, source_lens):
        encode = self._loaded.signatures["encode"]
        source = encode(tokens=tf.constant(tokens), source_lens=tf.constant(source_lens))
        self._cache = {**self._cache, **source}

    def _decode(self, tokens, input_pos):
        tokens, input_pos = tf.constant(tokens), tf.constant(input_pos)
        decode = self._loaded.signatures["decode"]
        outputs = dict(decode(tokens=tokens, input_pos=input_pos, **self._cache))
        logits = outputs.pop("logits")
        self._cache = {**self._cache, **outputs}
        return logits.numpy()[0, -1]


def saved_model_engine(path, model_config):
    """The engine for a SavedModel, by the architecture of its model."""
    is_decoder = model_config.architecture == "decoder-only"
    return (SavedModelEngine if is_decoder else SavedModelEncoderDecoderEngine)(path, model_config)


def _load(path):
    check_operations(path)
    try:
        with plainly_named(path) as name:
            return tf.saved_model.load(name)
    # What a damaged one raises depends on where the damage is.
    except Exception as error:
        raise InputError(f"TensorFlow cannot load {path} ({error}): export it again") from None


def _empty_cache(loaded):
    _, inputs = loaded.signatures["decode"].structured_input_signature
    return {
        name: tf.zeros((1, *spec.shape[1:]), spec.dtype)
        for name, spec in inputs.items()
        if name.startswith("kv_cache")
    }
