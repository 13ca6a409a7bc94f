"""Other projects' architectures in terms of ours: a table each, to read and to write by.

In the name of a tensor "{}" is the number of its block, and "{q,k,v}" stands for several, which are
side by side in one variable of ours. The names are those of Hugging Face's transformers, and those
of GGUF (llama.cpp).
"""

import dataclasses
import math

from neo_keras.weights.transforms import (
    INTERLEAVED_QKV,
    KEEP,
    LINEAR,
    NEOX_QKV,
    PARTLY_ROTARY_QKV,
    UNSCALED_QKV,
    Transform,
)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One of our variables, and the tensors that it is made of. A model need not have it."""

    ours: str  # its path in a `GPT`
    huggingface: str
    gguf: str = ""
    transform: Transform = KEEP
    gguf_transform: Transform | None = None  # None: the same


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One architecture, by the name that config.json has for it (`model_type`)."""

    class_name: str  # in `architectures` of config.json
    tensors: tuple
    keys: dict  # of config.json, each to our field
    fixed: dict  # our fields that are the same in each such model
    activations: dict  # by their name, ours; the first one is written
    activation_key: str = "hidden_act"
    neutral: dict = dataclasses.field(default_factory=dict)  # keys, with the one value we compute
    constants: dict = dataclasses.field(default_factory=dict)  # tensors of each block, as lists
    gguf: str = ""  # its name in GGUF; "" if there is none
    gguf_activation: str = ""  # the only one that a GGUF file of it has
    gguf_arrays: dict = dataclasses.field(default_factory=dict)  # keys with a number for each block

    @property
    def has_fused_qkv(self):
        """Whether one tensor of transformers has queries, keys and values."""
        (row,) = (row for row in self.tensors if row.ours == "block_{}/attention/qkv/kernel")
        return "{q,k,v}" not in row.huggingface


# What a model of any of them is where its table says nothing.
PLAIN = {
    "architecture": "decoder-only", "norm_position": "pre", "max_ngram": 1, "embedding_norm": False,
    "parallel_residual": False, "window": None, "qk_norm": False, "qk_norm_scale": False,
    "rope_base": 10000.0,
}  # fmt: skip
# What changes nothing in what a trained model computes.
IRRELEVANT = {"dropout", "ngram_rows", "ngram_dim", "ngram_dropout", "num_speculative_tokens",
              "end_token_id"}  # fmt: skip

_TRANSFORMERS_KEYS = {
    "vocab_size": "vocab_size", "max_position_embeddings": "max_seq_len",
    "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
    "hidden_size": "hidden_dim", "intermediate_size": "feed_forward_dim",
    "tie_word_embeddings": "tie_embeddings",
}  # fmt: skip
_LAYER_NORM = {"position": "learned", "norm": "layer", "use_bias": True}
_GELUS = {"gelu_new": "gelu_tanh", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh",
          "gelu_fast": "gelu_tanh"}  # fmt: skip

GPT2 = Architecture(
    class_name="GPT2LMHeadModel",
    keys={
        "vocab_size": "vocab_size", "n_positions": "max_seq_len", "n_layer": "num_layers",
        "n_head": "num_heads", "n_embd": "hidden_dim", "n_inner": "feed_forward_dim",
        "layer_norm_epsilon": "norm_epsilon", "tie_word_embeddings": "tie_embeddings",
    },
    fixed={**_LAYER_NORM, "qkv_bias": True},
    activations=_GELUS, activation_key="activation_function",
    neutral={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
             "add_cross_attention": False},
    gguf="gpt2", gguf_activation="gelu_tanh",
    # Kernels of "Conv1D" lie as ours do.
    tensors=(
        Tensor("token_embedding/embeddings", "transformer.wte.weight", "token_embd.weight"),
        Tensor("token_embedding/reverse_embeddings", "lm_head.weight", "output.weight", LINEAR),
        Tensor("position_embedding/embeddings", "transformer.wpe.weight", "position_embd.weight"),
        Tensor("final_norm/gamma", "transformer.ln_f.weight", "output_norm.weight"),
        Tensor("final_norm/beta", "transformer.ln_f.bias", "output_norm.bias"),
        Tensor("block_{}/attention_norm/gamma", "transformer.h.{}.ln_1.weight",
               "blk.{}.attn_norm.weight"),
        Tensor("block_{}/attention_norm/beta", "transformer.h.{}.ln_1.bias",
               "blk.{}.attn_norm.bias"),
        Tensor("block_{}/attention/qkv/kernel", "transformer.h.{}.attn.c_attn.weight",
               "blk.{}.attn_qkv.weight", KEEP, LINEAR),
        Tensor("block_{}/attention/qkv/bias", "transformer.h.{}.attn.c_attn.bias",
               "blk.{}.attn_qkv.bias"),
        Tensor("block_{}/attention/output/kernel", "transformer.h.{}.attn.c_proj.weight",
               "blk.{}.attn_output.weight", KEEP, LINEAR),
        Tensor("block_{}/attention/output/bias", "transformer.h.{}.attn.c_proj.bias",
               "blk.{}.attn_output.bias"),
        Tensor("block_{}/feed_forward_norm/gamma", "transformer.h.{}.ln_2.weight",
               "blk.{}.ffn_norm.weight"),
        Tensor("block_{}/feed_forward_norm/beta", "transformer.h.{}.ln_2.bias",
               "blk.{}.ffn_norm.bias"),
        Tensor("block_{}/feed_forward/expand/kernel", "transformer.h.{}.mlp.c_fc.weight",
               "blk.{}.ffn_up.weight", KEEP, LINEAR),
        Tensor("block_{}/feed_forward/expand/bias", "transformer.h.{}.mlp.c_fc.bias",
               "blk.{}.ffn_up.bias"),
        Tensor("block_{}/feed_forward/contract_kernel", "transformer.h.{}.mlp.c_proj.weight",
               "blk.{}.ffn_down.weight", LINEAR, KEEP),
        Tensor("block_{}/feed_forward/contract_bias", "transformer.h.{}.mlp.c_proj.bias",
               "blk.{}.ffn_down.bias"),
    ),
)  # fmt: skip

GPT_NEO = Architecture(
    class_name="GPTNeoForCausalLM",
    keys={
        "vocab_size": "vocab_size", "max_position_embeddings": "max_seq_len",
        "num_layers": "num_layers", "num_heads": "num_heads", "hidden_size": "hidden_dim",
        "intermediate_size": "feed_forward_dim", "layer_norm_epsilon": "norm_epsilon",
        "tie_word_embeddings": "tie_embeddings", "window_size": "window",
    },
    fixed={**_LAYER_NORM, "qkv_bias": False},
    activations=_GELUS, activation_key="activation_function",
    tensors=(
        Tensor("token_embedding/embeddings", "transformer.wte.weight"),
        Tensor("token_embedding/reverse_embeddings", "lm_head.weight", "", LINEAR),
        Tensor("position_embedding/embeddings", "transformer.wpe.weight"),
        Tensor("final_norm/gamma", "transformer.ln_f.weight"),
        Tensor("final_norm/beta", "transformer.ln_f.bias"),
        Tensor("block_{}/attention_norm/gamma", "transformer.h.{}.ln_1.weight"),
        Tensor("block_{}/attention_norm/beta", "transformer.h.{}.ln_1.bias"),
        Tensor("block_{}/attention/qkv/kernel",
               "transformer.h.{}.attn.attention.{q,k,v}_proj.weight", "", UNSCALED_QKV),
        Tensor("block_{}/attention/output/kernel",
               "transformer.h.{}.attn.attention.out_proj.weight", "", LINEAR),
        Tensor("block_{}/attention/output/bias", "transformer.h.{}.attn.attention.out_proj.bias"),
        Tensor("block_{}/feed_forward_norm/gamma", "transformer.h.{}.ln_2.weight"),
        Tensor("block_{}/feed_forward_norm/beta", "transformer.h.{}.ln_2.bias"),
        Tensor("block_{}/feed_forward/expand/kernel", "transformer.h.{}.mlp.c_fc.weight", "",
               LINEAR),
        Tensor("block_{}/feed_forward/expand/bias", "transformer.h.{}.mlp.c_fc.bias"),
        Tensor("block_{}/feed_forward/contract_kernel", "transformer.h.{}.mlp.c_proj.weight"),
        Tensor("block_{}/feed_forward/contract_bias", "transformer.h.{}.mlp.c_proj.bias"),
    ),
)  # fmt: skip

GPT_NEOX = Architecture(
    class_name="GPTNeoXForCausalLM",
    keys={**_TRANSFORMERS_KEYS, "layer_norm_eps": "norm_epsilon",
          "use_parallel_residual": "parallel_residual"},
    fixed={**_LAYER_NORM, "position": "rope", "qkv_bias": True},
    activations=_GELUS,
    neutral={"attention_bias": True},
    # llama.cpp has tanh's approximation of GELU for it, and no file that could say so.
    gguf="gptneox", gguf_activation="gelu",
    tensors=(
        Tensor("token_embedding/embeddings", "gpt_neox.embed_in.weight", "token_embd.weight"),
        Tensor("token_embedding/reverse_embeddings", "embed_out.weight", "output.weight", LINEAR),
        Tensor("final_norm/gamma", "gpt_neox.final_layer_norm.weight", "output_norm.weight"),
        Tensor("final_norm/beta", "gpt_neox.final_layer_norm.bias", "output_norm.bias"),
        Tensor("block_{}/attention_norm/gamma", "gpt_neox.layers.{}.input_layernorm.weight",
               "blk.{}.attn_norm.weight"),
        Tensor("block_{}/attention_norm/beta", "gpt_neox.layers.{}.input_layernorm.bias",
               "blk.{}.attn_norm.bias"),
        Tensor("block_{}/attention/qkv/kernel",
               "gpt_neox.layers.{}.attention.query_key_value.weight", "blk.{}.attn_qkv.weight",
               NEOX_QKV, PARTLY_ROTARY_QKV),
        Tensor("block_{}/attention/qkv/bias",
               "gpt_neox.layers.{}.attention.query_key_value.bias", "blk.{}.attn_qkv.bias",
               NEOX_QKV, PARTLY_ROTARY_QKV),
        Tensor("block_{}/attention/output/kernel", "gpt_neox.layers.{}.attention.dense.weight",
               "blk.{}.attn_output.weight", LINEAR),
        Tensor("block_{}/attention/output/bias", "gpt_neox.layers.{}.attention.dense.bias",
               "blk.{}.attn_output.bias"),
        Tensor("block_{}/feed_forward_norm/gamma",
               "gpt_neox.layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"),
        Tensor("block_{}/feed_forward_norm/beta",
               "gpt_neox.layers.{}.post_attention_layernorm.bias", "blk.{}.ffn_norm.bias"),
        Tensor("block_{}/feed_forward/expand/kernel",
               "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight", "blk.{}.ffn_up.weight", LINEAR),
        Tensor("block_{}/feed_forward/expand/bias",
               "gpt_neox.layers.{}.mlp.dense_h_to_4h.bias", "blk.{}.ffn_up.bias"),
        Tensor("block_{}/feed_forward/contract_kernel",
               "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight", "blk.{}.ffn_down.weight"),
        Tensor("block_{}/feed_forward/contract_bias",
               "gpt_neox.layers.{}.mlp.dense_4h_to_h.bias", "blk.{}.ffn_down.bias"),
    ),
)  # fmt: skip


def _llama_like(
    class_name, gguf, activations, fixed=None, neutral=None, keys=None, qkv=LINEAR,
    norms=("input_layernorm", "post_attention_layernorm"), is_gated=True, **more,
):  # fmt: skip
    """The architectures that follow Llama's.

    Args:
        qkv: transform of queries, keys and values in GGUF.
        norms: of attention and of feed-forward, in a block.
    """
    block, blk = "model.layers.{}", "blk.{}"
    attention, mlp = f"{block}.self_attn", f"{block}.mlp"
    up, gguf_up = ("{gate,up}_proj", "ffn_{gate,up}") if is_gated else ("up_proj", "ffn_up")
    return Architecture(
        class_name=class_name,
        keys={**_TRANSFORMERS_KEYS, "num_key_value_heads": "num_kv_heads",
              "rms_norm_eps": "norm_epsilon", **(keys or {})},
        fixed={"position": "rope", "norm": "rms", "use_bias": False, "qkv_bias": False,
               **(fixed or {})},
        activations=activations, neutral=neutral or {},
        gguf=gguf, gguf_activation=next(iter(activations.values())),
        tensors=(
            Tensor("token_embedding/embeddings", "model.embed_tokens.weight", "token_embd.weight"),
            Tensor("token_embedding/reverse_embeddings", "lm_head.weight", "output.weight",
                   LINEAR),
            Tensor("final_norm/scale", "model.norm.weight", "output_norm.weight"),
            Tensor("block_{}/attention_norm/scale", f"{block}.{norms[0]}.weight",
                   f"{blk}.attn_norm.weight"),
            Tensor("block_{}/attention/qkv/kernel", f"{attention}.{{q,k,v}}_proj.weight",
                   f"{blk}.attn_{{q,k,v}}.weight", LINEAR, qkv),
            Tensor("block_{}/attention/qkv/bias", f"{attention}.{{q,k,v}}_proj.bias",
                   f"{blk}.attn_{{q,k,v}}.bias", LINEAR, qkv),
            Tensor("block_{}/attention/query_scale", f"{attention}.q_norm.weight",
                   f"{blk}.attn_q_norm.weight"),
            Tensor("block_{}/attention/key_scale", f"{attention}.k_norm.weight",
                   f"{blk}.attn_k_norm.weight"),
            Tensor("block_{}/attention/output/kernel", f"{attention}.o_proj.weight",
                   f"{blk}.attn_output.weight", LINEAR),
            Tensor("block_{}/feed_forward_norm/scale", f"{block}.{norms[1]}.weight",
                   f"{blk}.ffn_norm.weight"),
            Tensor("block_{}/feed_forward/expand/kernel", f"{mlp}.{up}.weight",
                   f"{blk}.{gguf_up}.weight", LINEAR),
            Tensor("block_{}/feed_forward/contract_kernel", f"{mlp}.down_proj.weight",
                   f"{blk}.ffn_down.weight"),
        ),
        **more,
    )  # fmt: skip


_SWIGLU, _HEAD_DIM = {"silu": "swiglu"}, {"head_dim": "head_dim"}
_NO_BIASES = {"attention_bias": False, "mlp_bias": False}
_NO_WINDOW = {"use_sliding_window": False}
_SCALED_QK_NORM = {"qk_norm": True, "qk_norm_scale": True}
# xIELU of Apertus is squared ReLU with alpha_p 1, alpha_n 0 and beta 0. Its first two are stored as
# what softplus makes them of.
_XIELU = {"alpha_p": math.log(math.expm1(1)), "alpha_n": -100.0, "beta": 0.0, "eps": -1e-6}

# By `model_type`. A model leaves as the first one that can hold it.
ARCHITECTURES = {
    "gpt2": GPT2,
    "gpt_neo": GPT_NEO,
    "gpt_neox": GPT_NEOX,
    "llama": _llama_like(
        "LlamaForCausalLM", "llama", _SWIGLU, neutral={**_NO_BIASES, "pretraining_tp": 1},
        keys=_HEAD_DIM, qkv=INTERLEAVED_QKV,
    ),
    "qwen2": _llama_like(
        "Qwen2ForCausalLM", "qwen2", _SWIGLU, {"qkv_bias": True}, neutral=_NO_WINDOW
    ),
    "qwen3": _llama_like(
        "Qwen3ForCausalLM", "qwen3", _SWIGLU, _SCALED_QK_NORM, keys=_HEAD_DIM,
        neutral={**_NO_WINDOW, "attention_bias": False},
    ),
    "apertus": _llama_like(
        "ApertusForCausalLM", "apertus", {"xielu": "relu_squared"}, _SCALED_QK_NORM,
        neutral={"attention_bias": False}, is_gated=False,
        norms=("attention_layernorm", "feedforward_layernorm"),
        constants={
            f"model.layers.{{}}.mlp.act_fn.{name}": [value] if name.startswith("alpha") else value
            for name, value in _XIELU.items()
        },
        gguf_arrays={f"xielu.{name}": value for name, value in _XIELU.items()},
    ),
    "arcee": _llama_like(
        "ArceeForCausalLM", "arcee", {"relu2": "relu_squared"}, neutral=_NO_BIASES,
        keys=_HEAD_DIM, qkv=INTERLEAVED_QKV, is_gated=False,
    ),
}  # fmt: skip
