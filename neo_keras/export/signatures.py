"""The computations that exported files offer, and their names.

Two forms share one contract, `tokens` int32 [batch_size, N] at `input_pos` int32 [N]:
- functional: the cache comes in and goes out, as `kv_cache_k_i` and `kv_cache_v_i`. SavedModel and
  LiteRT-LM want it so.
- stateful: the cache lives in variables of the file. A `.tflite` decodes twice as fast so.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from neo_keras.export.sampling import draw_token, sampling_specs
from neo_keras.generation.engine import STATEFUL_SIGNATURES, chunk_size_for
from neo_keras.model.attention import MASKED

GENERATE_INPUTS = ("prompt_len", "max_new_tokens", "stop_token")


def write_functional(model, path, unk_token_id):
    """Writes a SavedModel with `serve`, `prefill` and `decode`, for any batch and length.

    Args:
        model: `GPT`.
        path: of the directory to write.
        unk_token_id: a token that is never to be drawn, or None.
    """
    bias = unknown_bias(model.config.vocab_size, unk_token_id)

    def serve(token_ids):
        return {"logits": model(token_ids) + bias}

    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", serve, [_tokens_spec(None, None, "token_ids")])
    _add_functional_endpoints(archive, model, bias, None, {"prefill": None, "decode": 1})
    archive.write_out(str(path), verbose=False)


def write_functional_for_litert_lm(model, path, unk_token_id):
    """Writes a SavedModel as LiteRT-LM wants it: fixed shapes, a prefill for each chunk size.

    The chunk of 1 fills the last slots of the cache, where LiteRT-LM refuses a larger one.

    Args:
        as `write_functional`.

    Returns:
        list of str, the names of the signatures.
    """
    sizes = sorted({chunk_size_for(model.config.max_seq_len), 8, 1}, reverse=True)
    lengths = {f"prefill_{n}": n for n in sizes if n <= model.config.max_seq_len}
    lengths["decode"] = 1
    bias = unknown_bias(model.config.vocab_size, unk_token_id)
    archive = keras.export.ExportArchive()
    _add_functional_endpoints(archive, model, bias, 1, lengths)
    archive.write_out(str(path), verbose=False)
    return list(lengths)


def write_stateful(model, path, unk_token_id):
    """Writes a SavedModel with `STATEFUL_SIGNATURES` over a cache of its own.

    Args:
        as `write_functional`.

    Returns:
        list of str, the names of the signatures.
    """
    bias = unknown_bias(model.config.vocab_size, unk_token_id)
    max_seq_len = model.config.max_seq_len
    chunk_size = chunk_size_for(max_seq_len)
    holder = tf.Module()
    holder.cache = {name: tf.Variable(value) for name, value in model.empty_cache().items()}

    def step(tokens, input_pos):
        logits, cache = model.step(tokens, input_pos, holder.cache)
        for name, value in cache.items():
            holder.cache[name].assign(value)
        return logits + bias

    def prefill(inputs):
        step(**inputs)
        # A signature must return something; not an input as it is: LiteRT.js, which binds a buffer
        # to each input and output, would run on the output's, before anything is in it.
        return {"input_pos": inputs["input_pos"] + chunk_size}

    def decode(inputs):
        return {"logits": step(**inputs)}

    def sample(inputs):
        inputs = dict(inputs)
        logits = step(inputs.pop("tokens"), inputs.pop("input_pos"))
        return {"next_token": draw_token(logits, **inputs)}

    def generate(inputs):
        inputs = dict(inputs)
        prompt_len, stop_token = inputs.pop("prompt_len"), inputs.pop("stop_token")
        end = ops.minimum(prompt_len + inputs.pop("max_new_tokens"), max_seq_len)

        def unfinished(position, token_ids, end):
            return (position < end - 1)[0]

        def take_one(position, token_ids, end):
            logits = step(ops.slice(token_ids, (0, position[0]), (1, 1)), position)
            drawn = draw_token(logits, step=position + 1 - prompt_len, **inputs)
            position = position + 1
            given = ops.slice(token_ids, (0, position[0]), (1, 1))
            token = ops.where(position < prompt_len, given, drawn)
            token_ids = ops.slice_update(token_ids, (0, position[0]), token)
            stopped = ops.logical_and(position >= prompt_len, drawn == stop_token)
            return position, token_ids, ops.where(stopped, position + 1, end)

        start = ops.zeros([1], "int32")
        _, token_ids, end = ops.while_loop(unfinished, take_one, (start, inputs.pop("tokens"), end))
        return {"token_ids": token_ids, "count": end}

    def reset():
        for variable in holder.cache.values():
            variable.assign(tf.zeros_like(variable))
        return {"input_pos": tf.zeros([1], tf.int32)}

    archive = keras.export.ExportArchive()
    archive.track(holder)
    archive.add_endpoint("prefill", prefill, [_step_specs(1, chunk_size)])
    archive.add_endpoint("decode", decode, [_step_specs(1, 1)])
    archive.add_endpoint("reset", reset, [])
    one = {name: tf.TensorSpec([1], tf.int32, name=name) for name in GENERATE_INPUTS}
    archive.add_endpoint("sample", sample, [
        {**_step_specs(1, 1), "step": tf.TensorSpec([1], tf.int32, name="step"), **sampling_specs()}
    ])
    archive.add_endpoint("generate", generate, [
        {"tokens": _tokens_spec(1, max_seq_len, "tokens"), **one, **sampling_specs()}
    ])
    archive.write_out(str(path), verbose=False)
    return list(STATEFUL_SIGNATURES)


def unknown_bias(vocab_size, unk_token_id):
    """Added to logits, it keeps the unknown token from ever being drawn: float32 [vocab_size]."""
    bias = np.zeros(vocab_size, "float32")
    if unk_token_id is not None:
        bias[unk_token_id] = MASKED
    return bias


def _add_functional_endpoints(archive, model, bias, batch_size, lengths):
    empty_cache = model.empty_cache()

    def step(inputs):
        cache = {name: inputs[name] for name in empty_cache}
        return model.step(inputs["tokens"], inputs["input_pos"], cache)

    def prefill(inputs):
        return step(inputs)[1]

    def decode(inputs):
        logits, cache = step(inputs)
        return {"logits": logits + bias, **cache}

    cache_specs = {
        name: tf.TensorSpec((batch_size, *value.shape[1:]), value.dtype, name=name)
        for name, value in empty_cache.items()
    }
    for name, length in lengths.items():
        specs = {**_step_specs(batch_size, length), **cache_specs}
        archive.add_endpoint(name, decode if name == "decode" else prefill, [specs])


def _step_specs(batch_size, seq_len):
    return {
        "tokens": _tokens_spec(batch_size, seq_len, "tokens"),
        "input_pos": tf.TensorSpec((seq_len,), tf.int32, name="input_pos"),
    }


def _tokens_spec(batch_size, seq_len, name):
    # int32: int64 tokens load in LiteRT without an error, and give garbage.
    return tf.TensorSpec((batch_size, seq_len), tf.int32, name=name)
