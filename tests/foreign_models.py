"""Models of Hugging Face's transformers with random weights, every axis of its own size."""

import math

import tiny_tokenizers

SEQ_LEN = 23
TOKENIZER = tiny_tokenizers.MAKE["bpe"]()
VOCAB_SIZE = TOKENIZER.get_vocab_size()
# Of Apertus' activation. The first two go through softplus.
SQUARED_RELU = {"alpha_p": math.log(math.expm1(1)), "alpha_n": -100.0, "beta": 0.0, "eps": -1e-6}


def _common(**more):
    return dict(vocab_size=VOCAB_SIZE, bos_token_id=None, eos_token_id=None, **more)


def _llama_like(**more):
    return _common(
        max_position_embeddings=SEQ_LEN, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, hidden_size=66, intermediate_size=37,
        rope_parameters={"rope_type": "default", "rope_theta": 1234.5}, **more,
    )  # fmt: skip


# By name: (class of the configuration, its arguments).
MODELS = {
    "gpt2": ("GPT2Config", _common(
        n_positions=SEQ_LEN, n_embd=35, n_layer=3, n_head=5, n_inner=41)),
    "gpt_neo": ("GPTNeoConfig", _common(
        # With a head_dim of 16, what is folded into queries is exact.
        max_position_embeddings=SEQ_LEN, hidden_size=80, num_layers=3, num_heads=5, window_size=7,
        attention_types=[[["global", "local"], 1], [["global"], 1]], intermediate_size=41)),
    "gpt_neox": ("GPTNeoXConfig", _common(
        max_position_embeddings=SEQ_LEN, hidden_size=60, num_hidden_layers=3,
        num_attention_heads=5, intermediate_size=41,
        rope_parameters={"rope_type": "default", "rope_theta": 1234.5,
                         "partial_rotary_factor": 0.5})),
    "gpt_neox-sequential": ("GPTNeoXConfig", _common(
        max_position_embeddings=SEQ_LEN, hidden_size=70, num_hidden_layers=2,
        num_attention_heads=5, intermediate_size=41, use_parallel_residual=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0})),
    "llama": ("LlamaConfig", _llama_like(head_dim=14, rms_norm_eps=1e-5)),
    "llama-tied": ("LlamaConfig", _llama_like(head_dim=10, tie_word_embeddings=True)),
    "qwen2": ("Qwen2Config", _llama_like(tie_word_embeddings=True) | {"hidden_size": 60}),
    "qwen3": ("Qwen3Config", _llama_like(head_dim=14, tie_word_embeddings=True)),
    "apertus": ("ApertusConfig", _llama_like() | {"hidden_size": 60}),
    "arcee": ("ArceeConfig", _llama_like(head_dim=14)),
}  # fmt: skip


def make(name):
    """A model of transformers, in evaluation mode and float32."""
    import torch
    import transformers

    torch.manual_seed(5)
    class_name, arguments = MODELS[name]
    config = getattr(transformers, class_name)(**arguments)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():  # biases and gains too, large enough to matter
            mean = 1.0 if parameter.ndim == 1 and float(parameter.mean()) == 1 else 0.0
            parameter.copy_(mean + 0.1 * torch.randn_like(parameter))
        for path, value in model.state_dict().items():  # xIELU as squared ReLU
            if ".act_fn." in path:
                value.fill_(SQUARED_RELU[path.rpartition(".")[2]])
    return model.eval()


def logits_of(model, token_ids):
    import torch

    with torch.no_grad():
        return model(torch.tensor(token_ids)).logits.numpy()


def save(model, path):
    """The folder of transformers of a model, with the tokenizer."""
    model.save_pretrained(path)
    TOKENIZER.save(str(path / "tokenizer.json"))
