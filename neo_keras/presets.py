"""Named pairs of a model and its training."""

import dataclasses

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import InputError


@dataclasses.dataclass(frozen=True)
class Preset:
    description: str
    model: dict
    training: dict


CLASSIC = {"position": "learned", "norm": "layer", "activation": "gelu", "qk_norm": False,
           "tie_embeddings": True}  # fmt: skip
# The loss of the next token, and nothing else.
PLAIN = {"num_future_tokens": 0, "loss_temperature": 1.0}
CLASSIC_TRAINING = {**PLAIN, "optimizer": "adamw", "schedule": "cosine", "beta_2": 0.99,
                    "clip_norm": 1.0}  # fmt: skip
# LiteRT's int8 kernel reads five tokens in little more time than two: four are drafts.
FAST = {"max_ngram": 5, "embedding_norm": True, "num_speculative_tokens": 4}

PRESETS = {
    "shakespeare-cpu": Preset(
        "2.9M parameters, a little over a minute on two CPU cores",
        model={**FAST, "num_heads": 2},
        training={},
    ),
    "shakespeare-cpu-long": Preset(
        "4.8M parameters, about 27 minutes on two CPU cores, better text",
        model={**FAST, "num_layers": 6, "num_heads": 3, "hidden_dim": 192,
               "max_seq_len": 512, "dropout": 0.2, "ngram_dropout": 0.1},
        training={"batch_size": 8, "steps": 4800},
    ),
    "shakespeare-gpu": Preset(
        "nanoGPT's GPU configuration in size, 10.7M parameters and an n-gram table",
        model={**FAST, "num_layers": 6, "num_heads": 6, "hidden_dim": 384,
               "max_seq_len": 256, "dropout": 0.2},
        training={"batch_size": 64, "steps": 2000, "eval_every": 250},
    ),
    "portable": Preset(
        "as shakespeare-cpu, without its n-gram table: opens in transformers and llama.cpp",
        model={**FAST, "max_ngram": 1, "num_heads": 2},
        training={},
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


# To train on what others trained: small steps, for few of them.
FINE_TUNING = {**PLAIN, "optimizer": "adamw", "schedule": "cosine", "beta_2": 0.999,
               "learning_rate": 5e-5, "weight_decay": 0.0, "clip_norm": 1.0, "batch_size": 4,
               "patience": 3, "sample_every": 100, "steps_per_execution": 1}  # fmt: skip
FINE_TUNING_EPOCHS = 3  # where nothing else is said
FINE_TUNING_VALIDATIONS = 6
LORA_LEARNING_RATE = 5e-4  # of adapters: ten times the rate of all weights


def for_pretrained(model_config, **overrides):
    """(`ModelConfig`, `TrainingConfig`) to train on a model whose weights are there already.

    Raises `InputError` where an override would be another model; None means "as it is".
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    own = {"dropout", "num_speculative_tokens", "max_seq_len"}
    changes = {name: given.pop(name) for name in own & given.keys()}
    if others := sorted(given.keys() & {field.name for field in dataclasses.fields(ModelConfig)}):
        raise InputError(f"{others[0]} comes with the weights of --from: leave it out")
    training = {**FINE_TUNING}
    if given.get("lora_rank"):
        training["learning_rate"] = LORA_LEARNING_RATE
    if given.get("optimizer", training["optimizer"]) != training["optimizer"]:
        del training["learning_rate"]
    model_config = dataclasses.replace(model_config, **changes)
    config = TrainingConfig(**{**training, **given})
    if config.lora:
        config.lora.check_rank(model_config)
        if model_config.num_speculative_tokens:
            raise InputError("--num-speculative-tokens does not go with --lora: leave one out")
    return model_config, config


def from_preset(name, vocab_size, **overrides):
    """Returns (`ModelConfig`, `TrainingConfig`) of a preset, changed by fields of either.

    None means "as the preset"; another optimizer comes with a learning rate of its own.
    """
    if name not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    names = [{field.name for field in dataclasses.fields(c)} for c in (ModelConfig, TrainingConfig)]
    for override in sorted(overrides.keys() - names[0] - names[1]):
        raise InputError(f"{override} is no field of ModelConfig or TrainingConfig: check its name")
    given = {name: value for name, value in overrides.items() if value is not None}
    if any(name.startswith("lora_") for name in given):
        raise InputError(
            "--lora adds to weights that are there: give them with --from, or leave it out"
        )
    of_model, of_training = ({name: given[name] for name in given.keys() & part} for part in names)
    preset = PRESETS[name]
    model = {**preset.model, **of_model, "vocab_size": vocab_size}
    if model.get("architecture") == "encoder-decoder":  # which has no drafter
        model["num_speculative_tokens"] = given.get("num_speculative_tokens", 0)
    training = {**preset.training}
    usual_optimizer = TrainingConfig(**training).optimizer
    if given.get("optimizer", usual_optimizer) != usual_optimizer:
        training.pop("learning_rate", None)
    return ModelConfig(**model), TrainingConfig(**{**training, **of_training})
