"""What exported files compute: their signatures, by where the KV cache lives.

- external: it goes into each call and comes out anew: SavedModel, LiteRT-LM.
- external and in place: the same, in memory of the app that grows with the text: the fastest form,
  which needs LiteRT's `CompiledModel`, as there an input and an output may share a buffer.
- internal: in variables of the file: an app needs no code for it, and every runtime runs it.
- bucketed: in variables of which a step reads those that it needs: LiteRT.js has neither open
  shapes nor buffers that are both input and output.

Each function here makes signatures of (model, bias): `GPT` or `EncoderDecoder`, and float32
[vocab_size], added to logits. It returns (`KVCache` or None, {name: (function, its inputs)}). All
take `tokens`, int32 [batch_size, N], at `input_pos`, int32 [N].
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from neo_keras.export.kv_cache import KVCache, bucket_ends
from neo_keras.export.sampling import sample_token, sampling_specs
from neo_keras.generation.engine import chunk_size_for
from neo_keras.generation.flatbuffer import IN_PLACE, in_place_functions, signature_names
from neo_keras.generation.keras_runner import model_functions
from neo_keras.model.attention import MASKED

STEP_INPUTS = ("tokens", "input_pos")
GENERATE_INPUTS = ("prompt_len", "max_new_tokens", "stop_token")


def write_signatures(make_signatures, model, path, unk_token_id):
    """Writes a SavedModel.

    Args:
        make_signatures: one of the functions below.
        model: `GPT` or `EncoderDecoder`.
        path: of the directory to write.
        unk_token_id: a token that is never to be sampled, or None.

    Returns:
        list of str, the names of the signatures.
    """
    bias = np.zeros(model.config.vocab_size, "float32")
    if unk_token_id is not None:
        bias[unk_token_id] = MASKED
    cache, signatures = make_signatures(model, bias)
    archive = keras.export.ExportArchive()
    if cache:
        archive.track(cache)
    for name, (function, specs) in signatures.items():
        archive.add_endpoint(name, function, specs)
    write_archive(archive, path)
    return list(signatures)


def write_archive(archive, path):
    """Writes a `keras.export.ExportArchive`.

    Raises:
        OSError: where TensorFlow cannot write, of which it has errors of its own.
    """
    try:
        archive.write_out(str(path), verbose=False)
    except tf.errors.OpError as error:
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(f"{path}: {reason}") from error


def saved_model_signatures(model, bias):
    """`serve` for whole texts, and external ones, for any batch and any length.

    Of an encoder-decoder, `decode` takes what `encode` returns, and caches of its own: zeros.
    """

    def serve(inputs):
        return {"logits": model(inputs) + bias}

    whole = _spec("token_ids", None, None)
    steps = {"prefill": ("prefill", None), "decode": ("decode", 1)}
    if model.has_encoder:
        lens = _spec("source_lens", None)
        source_ids = _spec("source_ids", None, None)
        whole = {"source_ids": source_ids, "source_lens": lens, "token_ids": whole}
        steps = {"encode": ("encode", None), "decode": ("decode", 1)}
    external = _external(model, bias, steps, batch_size=None, open_slots="source")
    return None, {"serve": (serve, [whole]), **external}


def litert_lm_signatures(model, bias):
    """External, of fixed shapes, with a prefill for each chunk size.

    The chunk of 1 fills the last slots of the cache, where LiteRT-LM refuses a larger one.
    """
    max_seq_len = model.config.max_seq_len
    sizes = sorted({chunk_size_for(max_seq_len), 8, 1}, reverse=True)
    steps = {f"prefill_{n}": ("prefill", n) for n in sizes if n <= max_seq_len}
    return None, _external(model, bias, {**steps, "decode": ("decode", 1)})


def tflite_signatures(model, bias):
    """In place and internal; of an encoder-decoder internal only."""
    cache, signatures = _internal(model, bias, [model.config.max_seq_len])
    if not model.has_encoder:
        seq_lens = {"decode": 1, "prefill": chunk_size_for(model.config.max_seq_len),
                    "verify": 1 + model.config.num_speculative_tokens}  # fmt: skip
        steps = {IN_PLACE.format(n): (n, seq_lens[n]) for n in in_place_functions(model.config)}
        signatures |= _external(model, bias, steps, open_slots="kv_cache")
    return cache, {name: signatures[name] for name in signature_names(model.config)}


def page_signatures(model, bias):
    """Bucketed: `prefill`, and a `sample_N` for tokens in the bucket that ends before slot N.

    A text needs no reset: it begins at position 0, and nothing after its last token is seen.
    """
    ends = bucket_ends(model.config.max_seq_len)
    cache, signatures = _internal(model, bias, ends)
    decode, (_, specs) = model_functions(model, bias)["decode"], signatures["sample"]

    def sample_in(bucket):
        def sample(inputs):
            step, sampling = _split(inputs, STEP_INPUTS)
            logits = cache.run(decode, step, first=bucket, last=bucket)["logits"]
            return {"next_token": sample_token(logits, **sampling), "logits": logits}

        return sample

    samples = {sample_name(end): (sample_in(i), specs) for i, end in enumerate(ends)}
    return cache, {"prefill": signatures["prefill"], **samples}


def sample_name(end):
    """Of the signature for a token in the bucket that ends there."""
    return f"sample_{end}"


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
            specs["key_positions"] = _spec("key_positions", None)
        held = {} if function == "encode" else cache_specs

        def call(inputs):
            cache, others = _split(inputs, held)
            return functions[function](others, cache)

        return call, [{**specs, **held}]

    return {name: signature(*step) for name, step in steps.items()}


def _internal(model, bias, ends):
    """All that a decoder-only model or an encoder-decoder may have."""
    functions, max_seq_len = model_functions(model, bias), model.config.max_seq_len
    cache = KVCache(model.empty_cache(), ends)

    # A signature must return something, and not an input as it came: LiteRT's CompiledModel would
    # read that input from the memory of the output, which is garbage.
    def reset():
        cache.reset()
        return {"input_pos": tf.zeros([1], tf.int32)}

    def encode(inputs):
        cache.run(functions["encode"], inputs)
        return {"input_pos": tf.zeros([1], tf.int32)}

    def prefill(inputs):
        cache.run(functions["prefill"], inputs)
        return {"input_pos": inputs["input_pos"] + 1}

    def decode(inputs):
        return cache.run(functions["decode"], inputs)

    def sample(inputs):
        step, sampling = _split(inputs, STEP_INPUTS)
        return {"next_token": sample_token(decode(step)["logits"], **sampling)}

    one = _step_specs(model, "decode", 1)
    whole = {"tokens": _spec("tokens", 1, max_seq_len), **_int_specs(*GENERATE_INPUTS)}
    return cache, {
        "reset": (reset, []),
        "encode": (encode, [_step_specs(model, "encode", max_seq_len)]),
        "prefill": (prefill, [_step_specs(model, "prefill", chunk_size_for(max_seq_len))]),
        "decode": (decode, [one]),
        "sample": (sample, [{**one, **_int_specs("step"), **sampling_specs()}]),
        "generate": (_generate(decode, max_seq_len), [{**whole, **sampling_specs()}]),
    }


def _generate(decode, max_seq_len):
    """A function that continues a prompt, from an empty cache to the end of the context at most.

    It takes the prompt's `tokens` int32 [1, max_seq_len], of which the first `prompt_len` (at least
    1) count; `max_new_tokens`; and `stop_token`, after which it ends (-1: none). It returns
    `token_ids` int32 [1, max_seq_len], of which the first `count` are the prompt and its
    continuation.
    """

    def generate(inputs):
        prompt, sampling = _split(inputs, ("tokens", *GENERATE_INPUTS))
        token_ids, prompt_len, max_new_tokens, stop_token = prompt.values()
        end = ops.minimum(prompt_len + max_new_tokens, max_seq_len)

        def unfinished(position, token_ids, end):
            return (position < end - 1)[0]

        def take_one(position, token_ids, end):
            token = ops.slice(token_ids, (0, position[0]), (1, 1))
            logits = decode({"tokens": token, "input_pos": position})["logits"]
            position = position + 1
            sampled = sample_token(logits, position - prompt_len, **sampling)
            given = ops.slice(token_ids, (0, position[0]), (1, 1))
            token = ops.where(position < prompt_len, given, sampled)
            stopped = ops.logical_and(position >= prompt_len, sampled == stop_token)
            token_ids = ops.slice_update(token_ids, (0, position[0]), token)
            return position, token_ids, ops.where(stopped, position + 1, end)

        begin = ops.zeros([1], "int32")
        _, token_ids, end = ops.while_loop(unfinished, take_one, (begin, token_ids, end))
        return {"token_ids": token_ids, "count": end}

    return generate


def _split(inputs, names):
    """(the named inputs, the others): two dicts."""
    named = {name: inputs[name] for name in names if name in inputs}
    return named, {name: x for name, x in inputs.items() if name not in named}


def _step_specs(model, function, seq_len, batch_size=1):
    """What one of `model_functions` takes beside the cache, by name."""
    specs = {"tokens": _spec("tokens", batch_size, seq_len)}
    if function == "encode":
        return {**specs, "source_lens": _spec("source_lens", batch_size)}
    if function == "verify":
        shape = seq_len + model.config.num_speculative_tokens, model.config.vocab_size
        specs["noise"] = tf.TensorSpec(shape, tf.float32, name="noise")
    return {**specs, "input_pos": _spec("input_pos", seq_len)}


def _int_specs(*names):
    return {name: _spec(name, 1) for name in names}


def _spec(name, *shape):
    """Of integers, with None for a length that is open."""
    # int32: int64 tokens load in LiteRT without an error, and give garbage.
    return tf.TensorSpec(shape, tf.int32, name=name)
