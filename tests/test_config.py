"""Configurations: what they refuse, what the presets say, and that JSON keeps them."""

import dataclasses
import json
import math
import re

import pytest

from neo_keras.choices import OPTIMIZERS
from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import InputError
from neo_keras.presets import PRESETS, from_preset

# What follows from other fields.
OPEN = dict.fromkeys(("num_kv_heads", "head_dim", "feed_forward_dim", "rotary_dim"))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"max_seq_len": -1}, "max_seq_len must be at least 2, got -1"),
        ({"num_layers": 2.0}, "num_layers must be of type int, got 2.0"),
        ({"num_heads": True}, "num_heads must be of type int, got True"),
        ({"num_kv_heads": 0}, "num_kv_heads must be at least 1, got 0"),
        ({"hidden_dim": "70"}, "hidden_dim must be of type int, got '70'"),
        ({"hidden_dim": 71}, "hidden_dim must be divisible by num_heads, got 71 and 5"),
        ({"num_kv_heads": 3}, "num_heads must be divisible by num_kv_heads, got 5 and 3"),
        ({"hidden_dim": 35}, "rotary positions need an even .*, got 35 / 5 = 7"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, got -0.1"),
        ({"dropout": math.nan}, "dropout must be at least 0 and below 1, got nan"),
        ({"ngram_dropout": 1.0}, "ngram_dropout must be at least 0 and below 1, got 1.0"),
        ({"max_ngram": 0}, "max_ngram must be at least 1, got 0"),
        ({"ngram_rows": 2**18 + 1}, "ngram_rows must be at most 262144, got 262145"),
        ({"position": "alibi"}, "position must be one of rope, learned, sinusoidal, got 'alibi'"),
        ({"norm": "batch"}, "norm must be one of rms, layer, got 'batch'"),
        ({"activation": "tanh"}, "activation must be one of relu_squared, relu, .*, got 'tanh'"),
        ({"rotary_dim": 15}, "rotary_dim must be even and at most head_dim, got 15 and 14"),
        ({"rotary_dim": 16}, "rotary_dim must be even and at most head_dim, got 16 and 14"),
        ({"rope_base": 0.0}, "rope_base must be above 0 and finite, got 0.0"),
        ({"window": 0}, "window must be at least 1, got 0"),
        (
            {"parallel_residual": True, "norm_position": "post"},
            "parallel_residual is for norm_position pre and .*, got post and decoder-only",
        ),
        ({"norm_position": "both"}, "norm_position must be one of pre, post, got 'both'"),
        ({"architecture": "encoder"}, "architecture must be one of decoder-only, .*, got"),
        # From a damaged file: any type.
        ({"embedding_norm": None}, "embedding_norm must be of type bool, got None"),
        ({"position": ["rope"]}, "position must be of type str, got \\['rope'\\]"),
        ({"dropout": "0"}, "dropout must be of type float, got '0'"),
        ({"num_speculative_tokens": {}}, "num_speculative_tokens must be of type int, got {}"),
        ({"end_token_id": 1.5}, "end_token_id must be of type int or None, got 1.5"),
    ],
)
def test_model_config_refuses(tiny_config, changes, message):
    with pytest.raises(InputError, match=message):
        ModelConfig(**{**dataclasses.asdict(tiny_config), **OPEN, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_dim": 71},
        {"hidden_dim": 10, "num_heads": 4},
        {"hidden_dim": 35},
        {"num_kv_heads": 3},
    ],
)
def test_the_fix_that_a_message_suggests_is_one(tiny_config, changes):
    fields = {**dataclasses.asdict(tiny_config), **OPEN, **changes}
    with pytest.raises(InputError) as caught:
        ModelConfig(**fields)
    name, value = re.search(r": try (\w+) (\d+)$", str(caught.value)).groups()
    ModelConfig(**{**fields, name: int(value)})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        (
            {"batch_size": 16, "cpu_replicas": 3},
            "cpu_replicas must divide batch_size, got 3 and 16",
        ),
        ({"cpu_replicas": 0}, "cpu_replicas must be at least 1, got 0"),
        ({"eval_every": 0}, "eval_every must be at least 1, got 0"),
        ({"steps_per_execution": 1.5}, "steps_per_execution must be of type int, got 1.5"),
        ({"learning_rate": 0}, "learning_rate must be above 0 and finite, got 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0 and finite, got nan"),
        ({"clip_norm": -1}, "clip_norm must be above 0 and finite, got -1"),
        ({"max_seconds": 0}, "max_seconds must be above 0 and finite, got 0"),
        ({"final_learning_rate": -1e-9}, "final_learning_rate must be at least 0, got -1e-09"),
        ({"optimizer": "lion"}, "optimizer must be one of muon, adamw, adam, sgd, got 'lion'"),
        ({"schedule": "step"}, "schedule must be one of linear, cosine, wsd, .*, got 'step'"),
        ({"optimizer": "adam", "weight_decay": 0.1}, "adam has no weight_decay, got 0.1: use ada"),
        ({"ema": 1}, "ema must be at least 0 and below 1, got 1"),
        ({"ema": -0.1}, "ema must be at least 0 and below 1, got -0.1"),
        ({"ema": math.nan}, "ema must be at least 0 and below 1, got nan"),
        ({"patience": -1}, "patience must be at least 0, got -1"),
        ({"ngram_weight_decay": -1}, "ngram_weight_decay must be at least 0, got -1"),
        ({"num_future_tokens": -1}, "num_future_tokens must be at least 0, got -1"),
        ({"loss_temperature": 0}, "loss_temperature must be above 0 and finite, got 0"),
        ({"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0, got -0.1"),
        ({"sample_every": -1}, "sample_every must be at least 0, got -1"),
        ({"seed": -1}, "seed must be .*, got -1"),
        ({"seed": 2**32}, "seed must be .*, got 4294967296"),  # NumPy's generator takes no more
    ],
)
def test_training_config_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        TrainingConfig(**changes)


def test_zero_means_none_where_it_may():
    config = TrainingConfig(
        optimizer="adamw", final_learning_rate=0, warmup_steps=0, weight_decay=0, sample_every=0
    )
    assert (config.warmup_steps, config.weight_decay, config.sample_every) == (0, 0, 0)
    assert config.max_seconds is None


def test_derived_values(tiny_config):
    assert (tiny_config.head_dim, tiny_config.feed_forward_dim) == (14, 280)
    assert tiny_config.num_kv_heads == 5
    assert dataclasses.replace(tiny_config, num_kv_heads=1).num_kv_heads == 1


@pytest.mark.parametrize("config", [ModelConfig(vocab_size=13), TrainingConfig()])
def test_configurations_are_frozen(config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 3)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    model, training = from_preset(name, vocab_size=13, num_layers=3, learning_rate=1e-7)
    for config in (model, training):
        restored = type(config)(**json.loads(json.dumps(dataclasses.asdict(config))))
        assert restored == config


def test_presets_say_what_their_descriptions_say():
    models = {name: from_preset(name, vocab_size=13)[0] for name in PRESETS}
    shapes = {
        name: (m.num_layers, m.num_heads, m.hidden_dim, m.max_seq_len) for name, m in models.items()
    }
    assert shapes == {
        "shakespeare-cpu": (4, 2, 128, 128),
        "shakespeare-cpu-long": (6, 3, 192, 512),
        "shakespeare-gpu": (6, 6, 384, 256),
        "portable": (4, 2, 128, 128),
        "nanogpt-cpu": (4, 4, 128, 64),
        "transformer": (2, 4, 128, 64),
        "gpt2-124m": (12, 12, 768, 1024),
    }
    assert {m.vocab_size for m in models.values()} == {13}
    gpt2 = models["gpt2-124m"]
    assert (gpt2.position, gpt2.norm, gpt2.activation) == ("learned", "layer", "gelu_tanh")
    assert gpt2.use_bias and gpt2.tie_embeddings and not gpt2.qk_norm
    paper = models["transformer"]
    assert (paper.architecture, paper.position) == ("encoder-decoder", "sinusoidal")
    assert (paper.norm, paper.norm_position, paper.activation) == ("layer", "post", "relu")
    assert all(preset.description for preset in PRESETS.values())


def test_overrides_change_one_field_and_none_changes_nothing():
    plain = from_preset("shakespeare-gpu", vocab_size=13)
    nothing = from_preset("shakespeare-gpu", 13, num_layers=None, steps=None, dropout=None)
    assert nothing == plain
    model, training = from_preset("shakespeare-gpu", 13, num_layers=3, steps=700, dropout=0.0)
    assert model == dataclasses.replace(plain[0], num_layers=3, dropout=0.0)
    assert training == dataclasses.replace(plain[1], steps=700)


def test_another_optimizer_comes_with_its_own_learning_rate():
    def rates(**overrides):
        return {
            (name, optimizer): from_preset(name, 13, optimizer=optimizer, **overrides)[1]
            for name in ("shakespeare-cpu", "nanogpt-cpu")
            for optimizer in (None, *OPTIMIZERS)
        }

    named = {key: c.learning_rate for key, c in rates().items() if c.learning_rate is not None}
    assert named == {("nanogpt-cpu", None): 1e-3, ("nanogpt-cpu", "adamw"): 1e-3}  # else: `resolve`
    asked = rates(learning_rate=0.07, warmup_steps=13)
    assert {(c.learning_rate, c.warmup_steps) for c in asked.values()} == {(0.07, 13)}


def test_overrides_are_validated():
    with pytest.raises(InputError, match="hidden_dim must be divisible"):
        from_preset("shakespeare-cpu", 13, hidden_dim=127)
    with pytest.raises(InputError, match="steps must be"):
        from_preset("shakespeare-cpu", 13, steps=0)


def test_an_override_of_no_field_is_refused():
    with pytest.raises(InputError, match="hiden_dim"):
        from_preset("shakespeare-cpu", 13, hiden_dim=64)


def test_unknown_preset_names_the_known_ones():
    with pytest.raises(InputError, match="shakespeare-cpu, .*gpt2-124m, got 'gpt5'"):
        from_preset("gpt5", 13)
