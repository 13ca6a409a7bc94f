"""The functional form of what exported files compute: the cache comes in and goes out.

SavedModel and LiteRT-LM want it so. `stateful` is the other form. Both share one contract: `tokens`
int32 [batch_size, N] at `input_pos` int32 [N].
"""

import keras
import numpy as np
import tensorflow as tf

from neo_keras.generation.engine import chunk_size_for
from neo_keras.model.attention import MASKED


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
    archive.add_endpoint("serve", serve, [tokens_spec(None, None, "token_ids")])
    _add_functional_endpoints(archive, model, bias, None, {"prefill": None, "decode": 1})
    write_archive(archive, path)


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
    write_archive(archive, path)
    return list(lengths)


def write_archive(archive, path):
    """Writes a `keras.export.ExportArchive` to a directory.

    Raises:
        OSError: where TensorFlow cannot write, of which it has errors of its own.
    """
    try:
        archive.write_out(str(path), verbose=False)
    except tf.errors.OpError as error:
        reason = error.message.rpartition("; ")[2].partition(" [Op:")[0]
        raise OSError(f"{path}: {reason}") from error


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
        specs = {**step_specs(batch_size, length), **cache_specs}
        archive.add_endpoint(name, decode if name == "decode" else prefill, [specs])


def step_specs(batch_size, seq_len):
    """The inputs `tokens` and `input_pos`, by name."""
    return {
        "tokens": tokens_spec(batch_size, seq_len, "tokens"),
        "input_pos": tf.TensorSpec((seq_len,), tf.int32, name="input_pos"),
    }


def tokens_spec(batch_size, seq_len, name):
    """Of token ids, with None for a length that is open."""
    # int32: int64 tokens load in LiteRT without an error, and give garbage.
    return tf.TensorSpec((batch_size, seq_len), tf.int32, name=name)


def split_inputs(inputs, *names):
    """The named inputs, one by one, and a dict of the others."""
    return *(inputs[n] for n in names), {n: x for n, x in inputs.items() if n not in names}
