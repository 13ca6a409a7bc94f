"""Named pairs of a model and its training."""

import dataclasses

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import InputError


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named pair of configurations; the vocabulary comes from the text."""

    description: str
    model: dict
    training: dict


CLASSIC = {
    "position": "learned",
    "norm": "layer",
    "activation": "gelu",
    "qk_norm": False,
    "tie_embeddings": True,
}

PLAIN = {
    "num_future_tokens": 0,
    "loss_temperature": 1.0,
}  # the loss of the next token, and nothing else

CLASSIC_TRAINING = {
    **PLAIN,
    "optimizer": "adamw",
    "schedule": "cosine",
    "beta_2": 0.99,
    "clip_norm": 1.0,
}

NGRAMS = {"max_ngram": 5, "embedding_norm": True}

DRAFTS = {
    "num_speculative_tokens": 4
}  # LiteRT's int8 kernel reads five tokens in little more time than two

PRESETS = {
    "shakespeare-cpu": Preset(
        "2.9M parameters, a little over a minute on two CPU cores",
        model={**NGRAMS, **DRAFTS, "num_heads": 2},
        training={},
    ),
    "shakespeare-cpu-long": Preset(
        "4.8M parameters, about 27 minutes on two CPU cores, better text",
        model={**NGRAMS, **DRAFTS, "num_layers": 6, "num_heads": 3, "hidden_dim": 192,
               "max_seq_len": 512, "dropout": 0.2, "ngram_dropout": 0.1},
        training={"batch_size": 8, "steps": 4800},
    ),
    "shakespeare-gpu": Preset(
        "nanoGPT's GPU configuration in size, 10.7M parameters and an n-gram table",
        model={**NGRAMS, **DRAFTS, "num_layers": 6, "num_heads": 6, "hidden_dim": 384,
               "max_seq_len": 256, "dropout": 0.2},
        training={"batch_size": 64, "steps": 2000, "eval_every": 250},
    ),
    "nanogpt-cpu": Preset(
        "nanoGPT's README CPU configuration, for like-for-like comparison",
        model={**CLASSIC, "max_seq_len": 64},
        training={**CLASSIC_TRAINING, "batch_size": 12, "steps": 2000, "learning_rate": 1e-3,
                  "final_learning_rate": 1e-4, "eval_every": 250, "jit_compile": True,
                  "mixed_precision": "float32"},
    ),
    "transformer": Preset(
        "the encoder-decoder of 'Attention Is All You Need', small: 2 + 2 layers, 128 wide",
        model={"architecture": "encoder-decoder", "position": "sinusoidal", "norm": "layer",
               "norm_position": "post", "activation": "relu", "use_bias": True, "qk_norm": False,
               "tie_embeddings": True, "num_layers": 2, "max_seq_len": 64, "dropout": 0.1},
        training={**PLAIN, "optimizer": "adam", "schedule": "inverse-sqrt", "beta_2": 0.98,
                  "learning_rate": 2e-3, "warmup_steps": 200, "batch_size": 32, "steps": 4000},
    ),
    "gpt2-124m": Preset(
        "GPT-2 small: 12 layers, 768 wide, context 1,024",
        model={**CLASSIC, "activation": "gelu_tanh", "use_bias": True, "num_layers": 12,
               "num_heads": 12, "hidden_dim": 768, "max_seq_len": 1024},
        training={**CLASSIC_TRAINING, "batch_size": 12, "steps": 10000, "learning_rate": 6e-4,
                  "final_learning_rate": 6e-5, "beta_2": 0.95, "steps_per_execution": 1},
    ),
}  # fmt: skip


def from_preset(name, vocab_size, **overrides):
    """Builds the two configurations of a preset, changed by `overrides`.

    Args:
        name: a key of `PRESETS`.
        vocab_size: the number of tokens that the tokenizer has.
        **overrides: fields of `ModelConfig` or `TrainingConfig`; None means "as the preset". But
            another optimizer comes with a learning rate of its own.

    Returns:
        (ModelConfig, TrainingConfig).
    """
    if name not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    known = {f.name for config in (ModelConfig, TrainingConfig) for f in dataclasses.fields(config)}
    for override in sorted(overrides.keys() - known):
        raise InputError(f"{override} is no field of ModelConfig or TrainingConfig: check its name")
    preset = PRESETS[name]
    model = {**preset.model, **_fields_of(ModelConfig, overrides), "vocab_size": vocab_size}
    if model.get("architecture") == "encoder-decoder" and not overrides.get(
        "num_speculative_tokens"
    ):
        model["num_speculative_tokens"] = 0
    training = {**preset.training}
    if overrides.get("optimizer") not in (None, TrainingConfig(**training).optimizer):
        training.pop("learning_rate", None)
    training |= _fields_of(TrainingConfig, overrides)
    return ModelConfig(**model), TrainingConfig(**training)


def _fields_of(config_class, values):
    names = {field.name for field in dataclasses.fields(config_class)}
    return {name: value for name, value in values.items() if name in names and value is not None}
