"""One set of GPT-2's weights, in the forms that neo_keras and its peers read.

The common form is a dict of float32 arrays under Hugging Face's names ("h.0.attn.c_attn.weight"),
where a dense kernel is [inputs, outputs].
"""

import numpy as np

from neo_keras.config import ModelConfig
from neo_keras.presets import PRESETS

SIZES = {
    "small": {"num_layers": 4, "num_heads": 2, "hidden_dim": 128, "max_seq_len": 128},
    "10.7m": {"num_layers": 6, "num_heads": 6, "hidden_dim": 384, "max_seq_len": 256},
    "124m": {},  # as the preset
}
VOCAB_SIZES = {"small": 65, "10.7m": 65, "124m": 50257}
SEED = 1

# Hugging Face's names of a block's layers, ours, and those of GGUF and KerasHub.
NORMS = {"ln_1": ("attention_norm", "attn_norm", "_self_attention_layer_norm"),
         "ln_2": ("feed_forward_norm", "ffn_norm", "_feedforward_layer_norm")}  # fmt: skip
DENSE = {"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up",
         "mlp.c_proj": "ffn_down"}  # fmt: skip


def model_config(size, max_seq_len=None):
    """The shape that every engine can run: GPT-2's, in one of the `SIZES`."""
    shape = {**PRESETS["gpt2-124m"].model, **SIZES[size], "vocab_size": VOCAB_SIZES[size]}
    return ModelConfig(**{**shape, **({"max_seq_len": max_seq_len} if max_seq_len else {})})


def random_weights(config):
    """Weights that make greedy text vary, so that equal text means equal arithmetic.

    GPT-2's own initial weights would repeat the last token for ever.
    """
    rng = np.random.default_rng(SEED)
    dim = config.hidden_dim

    def normal(*shape, stddev, mean=0.0):
        values = rng.standard_normal(shape, "float32")
        return values * np.float32(stddev) + np.float32(mean)

    def norm(name):
        return {
            f"{name}.weight": normal(dim, stddev=0.1, mean=1),
            f"{name}.bias": normal(dim, stddev=0.1),
        }

    def dense(name, num_inputs, num_outputs, gain=1.0):
        kernel = normal(num_inputs, num_outputs, stddev=gain * num_inputs**-0.5)
        return {f"{name}.weight": kernel, f"{name}.bias": normal(num_outputs, stddev=0.1)}

    weights = {
        "wte.weight": normal(config.vocab_size, dim, stddev=dim**-0.5),
        "wpe.weight": normal(config.max_seq_len, dim, stddev=dim**-0.5),
    }
    for i in range(config.num_layers):
        weights |= norm(f"h.{i}.ln_1") | norm(f"h.{i}.ln_2")
        weights |= dense(f"h.{i}.attn.c_attn", dim, 3 * dim, gain=2)  # attention that chooses
        weights |= dense(f"h.{i}.attn.c_proj", dim, dim)
        weights |= dense(f"h.{i}.mlp.c_fc", dim, config.feed_forward_dim)
        weights |= dense(f"h.{i}.mlp.c_proj", config.feed_forward_dim, dim)
    return weights | norm("ln_f")


def to_neo_keras(weights, config):
    """Our model with these weights."""
    from neo_keras.model.gpt import GPT

    model = GPT(config)
    for name, variable, is_transposed in _variables(model):
        variable.assign(weights[name].T if is_transposed else weights[name])
    return model


def from_neo_keras(model):
    """The common form of a model of ours, of the shape that `model_config` makes."""
    return {
        name: np.ascontiguousarray(variable.numpy().T if is_transposed else variable.numpy())
        for name, variable, is_transposed in _variables(model)
    }


def _variables(model):
    """Yields (name, variable, whether it lies the other way round) of a model of ours."""
    yield "wte.weight", model.token_embedding.embeddings, False
    yield "wpe.weight", model.position_embedding.embeddings, False
    norms = {"ln_f": model.final_norm}
    for i, block in enumerate(model.blocks):
        norms |= {f"h.{i}.{name}": getattr(block, layer) for name, (layer, _, _) in NORMS.items()}
        attention, feed_forward = block.attention, block.feed_forward
        for name, layer in (
            ("attn.c_attn", attention.qkv),
            ("attn.c_proj", attention.output_projection),
            ("mlp.c_fc", feed_forward.expand),
        ):
            yield f"h.{i}.{name}.weight", layer.kernel, False
            yield f"h.{i}.{name}.bias", layer.bias, False
        yield f"h.{i}.mlp.c_proj.weight", feed_forward.contract_kernel, True
        yield f"h.{i}.mlp.c_proj.bias", feed_forward.contract_bias, False
    for name, norm in norms.items():
        yield f"{name}.weight", norm.gamma, False
        yield f"{name}.bias", norm.beta, False


def to_hugging_face(weights, config):
    """`transformers.GPT2LMHeadModel` with these weights."""
    import torch
    import transformers

    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.max_seq_len,
            n_embd=config.hidden_dim,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            attn_implementation="sdpa",
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    state = {name: torch.from_numpy(value) for name, value in weights.items()}
    model.transformer.load_state_dict(state)
    return model.eval()


def to_keras_hub(weights, config):
    """`keras_hub.models.GPT2CausalLM` with these weights."""
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=config.vocab_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        hidden_dim=config.hidden_dim,
        intermediate_dim=config.feed_forward_dim,
        max_sequence_length=config.max_seq_len,
    )
    backbone.token_embedding.embeddings.assign(weights["wte.weight"])
    backbone.position_embedding.position_embeddings.assign(weights["wpe.weight"])
    for i, block in enumerate(backbone.transformer_layers):
        block_weights = _of_block(weights, i)
        for name, (_, _, layer) in NORMS.items():
            _assign_norm(getattr(block, layer), block_weights, name)
        attention = block._self_attention_layer
        kernels = np.split(block_weights["attn.c_attn.weight"], 3, axis=1)
        biases = np.split(block_weights["attn.c_attn.bias"], 3)
        kernels += [block_weights[f"{name}.weight"] for name in list(DENSE)[1:]]
        biases += [block_weights[f"{name}.bias"] for name in list(DENSE)[1:]]
        layers = (attention.query_dense, attention.key_dense, attention.value_dense,
                  attention.output_dense, block._feedforward_intermediate_dense,
                  block._feedforward_output_dense)  # fmt: skip
        for layer, kernel, bias in zip(layers, kernels, biases):
            layer.kernel.assign(kernel.reshape(layer.kernel.shape))
            layer.bias.assign(bias.reshape(layer.bias.shape))
    _assign_norm(backbone.layer_norm, weights, "ln_f")
    return keras_hub.models.GPT2CausalLM(backbone)


def write_gguf(weights, config, path, quantization):
    """Writes the file that llama.cpp reads.

    Args:
        weights: the common form.
        config: `ModelConfig`.
        path: of the file.
        quantization: "float32" or "Q8_0"; of the matrices and the token embedding, as llama.cpp's
            own tool does it.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_seq_len)
    writer.add_embedding_length(config.hidden_dim)
    writer.add_feed_forward_length(config.feed_forward_dim)
    writer.add_head_count(config.num_heads)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")

    def add(name, value, quantize=False):
        value = np.ascontiguousarray(value)  # a kernel: [outputs, inputs]
        if not quantize or quantization == "float32":
            writer.add_tensor(name, value)
            return
        kind = gguf.GGMLQuantizationType[quantization]
        writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)

    add("token_embd.weight", weights["wte.weight"], quantize=True)
    add("position_embd.weight", weights["wpe.weight"])
    for i in range(config.num_layers):
        block_weights = _of_block(weights, i)
        for name, (_, theirs, _) in NORMS.items():
            add(f"blk.{i}.{theirs}.weight", block_weights[f"{name}.weight"])
            add(f"blk.{i}.{theirs}.bias", block_weights[f"{name}.bias"])
        for name, theirs in DENSE.items():
            add(f"blk.{i}.{theirs}.weight", block_weights[f"{name}.weight"].T, quantize=True)
            add(f"blk.{i}.{theirs}.bias", block_weights[f"{name}.bias"])
    add("output_norm.weight", weights["ln_f.weight"])
    add("output_norm.bias", weights["ln_f.bias"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _of_block(weights, i):
    prefix = f"h.{i}."
    return {k.removeprefix(prefix): value for k, value in weights.items() if k.startswith(prefix)}


def _assign_norm(layer, weights, name):
    layer.gamma.assign(weights[f"{name}.weight"])
    layer.beta.assign(weights[f"{name}.bias"])
