"""What exported files compute: their signatures, by where the KV cache lives.

- external: it goes into each call and comes out anew: SavedModel, LiteRT-LM.
- external and in place: the same, in memory of the app that grows with the text: the fastest form,
  which needs LiteRT's `CompiledModel`, as there an input and an output may share a buffer.
- internal: in variables of the file: an app needs no code for it, and every runtime runs it.
- bucketed: in variables of which a step reads those that it needs: LiteRT.js has neither open
  shapes nor buffers that are both input and output.

Each function here makes signatures of (model, bias): `GPT` or `EncoderDecoder`, and float32
[vocab_size], added to logits. It returns {name: (function, its inputs)}. All take `tokens`, int32
[batch_size, N], at `input_pos`, int32 [N].
"""

import numpy as np
import tensorflow as tf
from keras import ops

from neo_keras.export.kv_cache import KVCache, bucket_ends
from neo_keras.generation.engine import chunk_size_for
from neo_keras.generation.flatbuffer import IN_PLACE, in_place_functions, signature_names
from neo_keras.generation.keras_runner import model_functions
from neo_keras.generation.sampler import gumbel_noise
from neo_keras.model.attention import MASKED

SAMPLE = "sample_{}"  # of a page, for a token in the bucket that ends before this slot
MIN_TEMPERATURE = 1e-6  # of the probabilities that top-p adds up; next to it, one token has all


def write_signatures(source, path, make_signatures):
    """Writes a SavedModel of a `Source`, or raises `OSError`; returns names of its signatures.

    Args:
        make_signatures: one of the functions below.
    """
    bias = np.zeros(source.model.config.vocab_size, "float32")
    if source.tokenizer is not None:
        bias[source.tokenizer.suppressed_ids(len(bias))] = MASKED
    signatures = make_signatures(source.model, bias)
    # Not by `keras.export.ExportArchive`, which traces each function twice.
    graphs = {
        name: tf.function(function, autograph=False).get_concrete_function(*specs)
        for name, (function, specs) in signatures.items()
    }
    module = tf.Module()
    module.held = list({v.ref(): v for graph in graphs.values() for v in graph.variables}.values())
    default = {"serving_default": next(iter(graphs.values()))}  # of TensorFlow Serving
    try:
        tf.saved_model.save(module, str(path), {**graphs, **default})
    except tf.errors.OpError as error:
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(f"{path}: {reason}") from error
    return list(signatures)


def saved_model_signatures(model, bias):
    """`serve` for whole texts, and external ones, for any batch and any length.

    Of an encoder-decoder, `decode` takes what `encode` returns, and caches of its own: zeros.
    """

    def serve(inputs):
        return {"logits": model(inputs) + bias}

    whole = _specs(source_ids=[None, None], source_lens=[None], token_ids=[None, None])
    steps = {"encode": ("encode", None), "decode": ("decode", 1)}
    if not model.has_encoder:
        whole = whole["token_ids"]
        steps = {"prefill": ("prefill", None), "decode": ("decode", 1)}
    external = _external(model, bias, steps, batch_size=None, open_slots="source")
    return {"serve": (serve, [whole]), **external}


def litert_lm_signatures(model, bias):
    """External, of fixed shapes, with a prefill for each chunk size.

    The chunk of 1 fills the last slots of the cache, where LiteRT-LM refuses a larger one.
    """
    max_seq_len = model.config.max_seq_len
    sizes = sorted({chunk_size_for(max_seq_len), 8, 1}, reverse=True)
    steps = {f"prefill_{n}": ("prefill", n) for n in sizes if n <= max_seq_len}
    return _external(model, bias, {**steps, "decode": ("decode", 1)})


def tflite_signatures(model, bias):
    """In place and internal; of an encoder-decoder internal only."""
    signatures, _ = _internal(model, bias, [model.config.max_seq_len])
    if not model.has_encoder:
        seq_lens = {"decode": 1, "prefill": chunk_size_for(model.config.max_seq_len),
                    "verify": 1 + model.config.num_speculative_tokens}  # fmt: skip
        steps = {IN_PLACE.format(n): (n, seq_lens[n]) for n in in_place_functions(model.config)}
        signatures |= _external(model, bias, steps, open_slots="kv_cache")
    return {name: signatures[name] for name in signature_names(model.config)}


def page_signatures(model, bias):
    """Bucketed: `prefill`, and a `SAMPLE` for each bucket.

    A text needs no reset: it begins at position 0, and nothing after its last token is seen.
    """
    ends = bucket_ends(model.config.max_seq_len)
    signatures, cache = _internal(model, bias, ends)
    decode, (_, specs) = model_functions(model, bias)["decode"], signatures["sample"]

    def sample_in(bucket):
        def sample(inputs):
            return _sample(lambda step: cache.run(decode, step, bucket), **inputs)

        return sample

    samples = {SAMPLE.format(end): (sample_in(i), specs) for i, end in enumerate(ends)}
    return {"prefill": signatures["prefill"], **samples}


def _external(model, bias, steps, batch_size=1, open_slots=None):
    """Signatures of {name: (name of one of `model_functions`, seq_len)}.

    What begins with `open_slots` has any number of slots; of "kv_cache", the input `key_positions`
    says how many: int32 [capacity], 0, 1 and so on.
    """
    functions, cache_specs = model_functions(model, bias), {}
    for name, value in model.empty_cache().items():
        shape = [batch_size, *value.shape[1:]]
        if len(shape) == 4 and open_slots and name.startswith(open_slots):
            shape[2] = None
        cache_specs[name] = tf.TensorSpec(shape, value.dtype, name=name)

    def signature(function, seq_len):
        specs = _step_specs(model, function, seq_len, batch_size)
        if open_slots == "kv_cache":
            specs |= _specs(key_positions=[None])
        held = {} if function == "encode" else cache_specs

        def call(inputs):
            return functions[function](inputs, {name: inputs[name] for name in held})

        return call, [{**specs, **held}]

    return {name: signature(*step) for name, step in steps.items()}


def _internal(model, bias, ends):
    """(all that a decoder-only model or an encoder-decoder may have, their `KVCache`)."""
    functions, max_seq_len = model_functions(model, bias), model.config.max_seq_len
    cache = KVCache(model.empty_cache(), ends)

    # A signature must return something, and not an input as it came: LiteRT's CompiledModel would
    # read that input from the memory of the output, which is garbage.
    def reset():
        for variable in cache.variables:
            variable.assign(tf.zeros_like(variable))
        return {"input_pos": tf.zeros([1], tf.int32)}

    def encode(inputs):
        cache.run(functions["encode"], inputs)
        return {"input_pos": tf.zeros([1], tf.int32)}

    def prefill(inputs):
        cache.run(functions["prefill"], inputs)
        return {"input_pos": inputs["input_pos"] + 1}

    @tf.function(autograph=False)  # three signatures have it: one graph
    def decode(inputs):
        return cache.run(functions["decode"], inputs)

    def sample(inputs):
        return {"next_token": _sample(decode, **inputs)["next_token"]}

    def generate(inputs):
        return _generate(decode, **inputs)

    one = _step_specs(model, "decode", 1)
    whole = _specs(tokens=[1, max_seq_len], prompt_len=[1], max_new_tokens=[1], stop_token=[1])
    sampling = {**_specs("float32", temperature=[1], top_p=[1]), **_specs(top_k=[1], seed=[1])}
    signatures = {
        "reset": (reset, []),
        "encode": (encode, [_step_specs(model, "encode", max_seq_len)]),
        "prefill": (prefill, [_step_specs(model, "prefill", chunk_size_for(max_seq_len))]),
        "decode": (decode, [one]),
        "sample": (sample, [{**one, **_specs(step=[1]), **sampling}]),
        "generate": (generate, [{**whole, **sampling}]),
    }
    return signatures, cache


def _sample(decode, tokens, input_pos, **sampling):
    logits = decode({"tokens": tokens, "input_pos": input_pos})["logits"]
    return {"next_token": _sample_token(logits, **sampling), "logits": logits}


def _generate(decode, tokens, prompt_len, max_new_tokens, stop_token, **sampling):
    """Continues a prompt in an empty cache; docs/export.md tells its inputs and outputs."""
    end = ops.minimum(prompt_len + max_new_tokens, tokens.shape[1])

    def unfinished(position, token_ids, end):
        return (position < end - 1)[0]

    def take_one(position, token_ids, end):
        token = ops.slice(token_ids, (0, position[0]), (1, 1))
        logits = decode({"tokens": token, "input_pos": position})["logits"]
        position = position + 1
        sampled = _sample_token(logits, position - prompt_len, **sampling)
        given = ops.slice(token_ids, (0, position[0]), (1, 1))
        token = ops.where(position < prompt_len, given, sampled)
        stopped = ops.logical_and(position >= prompt_len, sampled == stop_token)
        token_ids = ops.slice_update(token_ids, (0, position[0]), token)
        return position, token_ids, ops.where(stopped, position + 1, end)

    begin = ops.zeros([1], "int32")
    _, token_ids, end = ops.while_loop(unfinished, take_one, (begin, tokens, end))
    return {"token_ids": token_ids, "count": end}


def _sample_token(logits, step, temperature, top_k, top_p, seed):
    """Samples what `Sampler.sample` samples, for an app without mathematics: int32 [1].

    Args:
        logits: float32 [1, 1, vocab_size].
        step: int32 [1], how many tokens were sampled before.
        temperature, top_p: float32 [1]; off at 0 (greedy) and 1.
        top_k, seed: int32 [1]; top-k is off at 0.
    """
    vocab_size = logits.shape[-1]
    logits, token_ids = ops.top_k(ops.reshape(logits, [vocab_size]), vocab_size)  # sorted
    rank = ops.arange(vocab_size, dtype="int32")
    kept = rank < ops.where(top_k > 0, top_k, vocab_size)
    scaled = logits / ops.maximum(temperature, MIN_TEMPERATURE)
    probabilities = ops.where(kept, ops.softmax(scaled), 0.0)
    before = ops.cumsum(probabilities) - probabilities
    limit = ops.where(top_p < 1, top_p * ops.sum(probabilities), 2.0)  # 2: more than there is
    kept = ops.logical_and(kept, before < limit)
    noise = tf.gather(gumbel_noise(seed, step, vocab_size, ops), token_ids)
    # The largest of logits / temperature + noise, as of logits + temperature * noise.
    scores = ops.where(kept, logits + temperature * noise, MASKED)
    return tf.gather(token_ids, tf.argmax(scores, output_type=tf.int32)[None])


def _step_specs(model, function, seq_len, batch_size=1):
    """What one of `model_functions` takes beside the cache, by name."""
    tokens = [batch_size, seq_len]
    if function == "encode":
        return _specs(tokens=tokens, source_lens=[batch_size])
    specs = _specs(tokens=tokens, input_pos=[seq_len])
    if function == "verify":
        shape = [seq_len + model.config.num_speculative_tokens, model.config.vocab_size]
        specs |= _specs("float32", noise=shape)
    return specs


# int32: int64 tokens load in LiteRT without an error, and give garbage.
def _specs(dtype="int32", **shapes):
    """By name, with None for a length that is open."""
    return {name: tf.TensorSpec(shape, dtype, name=name) for name, shape in shapes.items()}
