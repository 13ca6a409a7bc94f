"""llama.cpp's own ids of texts, by a tiny model with a tokenizer; where xllamacpp is installed."""

import contextlib
import json
import urllib.request

import numpy as np
import pytest


def write_gguf(path, fields):
    """Writes a model of the architecture "llama" with weights that mean nothing."""
    gguf = pytest.importorskip("gguf")
    num_rows, width = len(fields["tokenizer.ggml.tokens"]), 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32,
           list: writer.add_array}  # fmt: skip
    for name, value in fields.items():
        add[type(value)](name, value)
    shapes = {"token_embd": (num_rows, width), "output": (num_rows, width), "output_norm": (width,)}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        shapes[f"blk.0.{name}"] = (width, width)
    shapes |= {"blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.ones(shape, "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextlib.contextmanager
def serve(path):
    """Within the block llama.cpp serves a file: a function of (name, **body), which returns JSON.

    Its cache is float32, as its arithmetic.
    """
    xllamacpp = pytest.importorskip("xllamacpp", reason="pip install xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.warmup = str(path), 256, False
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    server = xllamacpp.Server(params)

    def post(name, **body):
        request = urllib.request.Request(
            f"{server.listening_address}/{name}", json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    yield post


@contextlib.contextmanager
def llama_cpp(path):
    """A function of a text that returns llama.cpp's ids of it."""
    with serve(path) as post:

        def tokenize(text, special=False):
            return post("tokenize", content=text, add_special=special, parse_special=True)["tokens"]

        yield tokenize
