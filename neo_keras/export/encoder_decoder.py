"""An encoder-decoder's signatures: `encode` once for a text, `decode` for each token.

In a SavedModel the cache comes in and goes out, as in `signatures`. In a `.tflite` it lives in
variables of the file, as in `stateful`.
"""

import keras
import tensorflow as tf

from neo_keras.export.signatures import step_specs, tokens_spec, unknown_bias, write_archive
from neo_keras.generation.flatbuffer import ENCODER_DECODER_SIGNATURES


def write_functional(model, path, unk_token_id):
    """Writes a SavedModel with `serve`, `encode` and `decode`, for any batch and length.

    `decode` takes what `encode` returns, and caches of its own: all zeros at first.

    Args:
        model: `EncoderDecoder`.
        path: of the directory to write.
        unk_token_id: a token that is never to be drawn, or None.
    """
    bias = unknown_bias(model.config.vocab_size, unk_token_id)

    def serve(inputs):
        return {"logits": model(inputs) + bias}

    def encode(inputs):
        return model.encode(inputs["tokens"], inputs["source_lens"])

    def decode(inputs):
        cache = {name: inputs[name] for name in model.empty_cache()}
        logits, cache = model.step(inputs["tokens"], inputs["input_pos"], cache)
        grown = {name: x for name, x in cache.items() if name.startswith("kv_cache")}
        return {"logits": logits + bias, **grown}

    cache_specs = {}
    for name, value in model.empty_cache().items():
        shape = [None, *value.shape[1:]]
        if name.startswith("source") and len(shape) == 4:
            shape[2] = None  # as long as the source is
        cache_specs[name] = tf.TensorSpec(shape, value.dtype, name=name)
    whole = {
        "source_ids": tokens_spec(None, None, "source_ids"),
        "source_lens": _lens_spec(None),
        "token_ids": tokens_spec(None, None, "token_ids"),
    }
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", serve, [whole])
    archive.add_endpoint("encode", encode, [_encode_specs(None, None)])
    archive.add_endpoint("decode", decode, [{**step_specs(None, 1), **cache_specs}])
    write_archive(archive, path)


def write_stateful(model, path, unk_token_id):
    """Writes a SavedModel with `ENCODER_DECODER_SIGNATURES`, for conversion.

    Args:
        as `write_functional`.

    Returns:
        list of str, the names of the signatures.
    """
    bias = unknown_bias(model.config.vocab_size, unk_token_id)
    stateful = StatefulEncoderDecoder(model, bias)
    archive = keras.export.ExportArchive()
    archive.track(stateful)
    specs = {
        "encode": [_encode_specs(1, model.config.max_seq_len)],
        "decode": [step_specs(1, 1)],
        "reset": [],
    }
    for name in ENCODER_DECODER_SIGNATURES:
        archive.add_endpoint(name, getattr(stateful, name), specs[name])
    write_archive(archive, path)
    return list(ENCODER_DECODER_SIGNATURES)


class StatefulEncoderDecoder(tf.Module):
    """A model with a cache of its own, for one text at a time.

    Args:
        model: `EncoderDecoder`.
        bias: float32 [vocab_size], added to logits.
    """

    def __init__(self, model, bias):
        super().__init__()
        self._encode = model.encode
        self._step = model.step
        self._bias = bias
        self.cache = {name: tf.Variable(value) for name, value in model.empty_cache().items()}

    def encode(self, inputs):
        """Reads a source: `tokens` int32 [1, max_seq_len], of which `source_lens` [1] count."""
        for name, value in self._encode(inputs["tokens"], inputs["source_lens"]).items():
            self.cache[name].assign(value)
        return {"input_pos": tf.zeros([1], tf.int32)}  # a signature must return something

    def decode(self, inputs):
        """Takes in one token: `logits`, float32 [1, 1, vocab_size]."""
        logits, cache = self._step(inputs["tokens"], inputs["input_pos"], self.cache)
        for name, value in cache.items():
            if name.startswith("kv_cache"):  # a source stays what it is
                self.cache[name].assign(value)
        return {"logits": logits + self._bias}

    def reset(self):
        """Begins a new text, without a source."""
        for variable in self.cache.values():
            variable.assign(tf.zeros_like(variable))
        return {"input_pos": tf.zeros([1], tf.int32)}


def _encode_specs(batch_size, source_len):
    tokens = tokens_spec(batch_size, source_len, "tokens")
    return {"tokens": tokens, "source_lens": _lens_spec(batch_size)}


def _lens_spec(batch_size):
    return tf.TensorSpec((batch_size,), tf.int32, name="source_lens")
