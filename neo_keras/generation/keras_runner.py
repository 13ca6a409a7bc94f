"""Runs a Keras model, which may still be in training."""

import keras

from neo_keras.generation.engine import Engine, Runner


def keras_engine(model, speculative=False):
    """The engine of a model; speculative: its drafter is trained, and drafts."""
    functions = model_functions(model)
    if not speculative:
        functions.pop("verify", None)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        functions = {name: tf.function(function) for name, function in functions.items()}
    return Engine(Runner(functions, model.empty_cache()), model.config)


def model_functions(model, bias=0.0):
    """What decoding runs of a model, in Keras and in every exported file.

    Args:
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
