"""Runs a Keras model, which may still be in training."""

import keras

from neo_keras.generation.engine import Runner, make_engine


class KerasRunner(Runner):
    """Runs the functions of a model, compiled where the backend is TensorFlow.

    Args:
        model: `GPT` or `EncoderDecoder`.
        speculative: decode speculatively; its drafter must be trained.
    """

    def __init__(self, model, speculative=False):
        functions = model_functions(model)
        if not speculative:
            functions.pop("verify", None)
        self._functions = {name: _compiled(function) for name, function in functions.items()}
        self.names = set(functions)
        self.cache = model.empty_cache()

    def run(self, name, **inputs):
        outputs = self._functions[name](inputs, self.cache)
        return self._keep_cache(outputs, keras.ops.convert_to_numpy)


def keras_engine(model, speculative=False):
    """The engine of a Keras model; arguments as for `KerasRunner`."""
    return make_engine(KerasRunner(model, speculative), model.config)


def model_functions(model, bias=0.0):
    """What decoding runs of a model, for `KerasRunner` and for every exported file.

    Args:
        model: `GPT` or `EncoderDecoder`.
        bias: float32 [vocab_size], added to logits.

    Returns:
        dict: the name of each function, as in `Runner`, to a function of (inputs, cache), both
        dicts by name. Inputs may have `key_positions`, as for `GPT.step`. It returns one dict:
        `logits` and `drafts`, with a batch axis, and what it changes of the cache.
    """

    def step(inputs, cache):
        key_positions = inputs.get("key_positions")
        return model.step(inputs["tokens"], inputs["input_pos"], cache, key_positions)

    def prefill(inputs, cache):
        return step(inputs, cache)[1]

    def decode(inputs, cache):
        logits, cache = step(inputs, cache)
        grown = {name: x for name, x in cache.items() if name.startswith("kv_cache")}
        return {"logits": logits + bias, **grown}  # a source stays what it is

    def verify(inputs, cache):
        logits, drafts, cache = model.verify(
            inputs["tokens"], inputs["input_pos"], cache, inputs["noise"] + bias,
            inputs.get("key_positions"),
        )  # fmt: skip
        return {"logits": logits + bias, "drafts": drafts, **cache}

    def encode(inputs, cache):
        return model.encode(inputs["tokens"], inputs["source_lens"])

    if model.has_encoder:
        return {"encode": encode, "decode": decode}
    functions = {"decode": decode, "prefill": prefill}
    return {**functions, "verify": verify} if model.config.num_speculative_tokens else functions


def _compiled(function):
    """A graph of it where the backend is TensorFlow; elsewhere it runs eagerly."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function)
