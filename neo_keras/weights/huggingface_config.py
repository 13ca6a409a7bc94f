"""config.json of Hugging Face's transformers <-> `ModelConfig`.

A key that changes what a model computes is refused by its name where we do not compute it: nothing
that is not known here is ignored.
"""

import dataclasses
import json

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.weights.layouts import ARCHITECTURES, PLAIN

# Where one is missing, or null, the field has its own default.
OPTIONAL = {"num_kv_heads", "head_dim", "feed_forward_dim", "tie_embeddings"}
# Of training, of other tasks, of memory, of the tokenizer: not of what is computed here.
HARMLESS = {
    "_name_or_path", "architectures", "attention_dropout", "attn_pdrop", "bos_token_id",
    "classifier_dropout", "dtype", "embd_pdrop", "embed_dropout", "eos_token_id",
    "gradient_checkpointing", "hidden_dropout", "hidden_dropout_prob", "initializer_range",
    "is_decoder", "is_llama_config", "max_window_layers", "model_type", "n_ctx", "pad_token_id",
    "reorder_and_upcast_attn", "resid_dropout", "resid_pdrop", "sliding_window",
    "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
    "summary_use_proj", "task_specific_params", "torch_dtype", "transformers.js_config",
    "transformers_version", "use_cache",
}  # fmt: skip
ROPE_KEYS = {"rope_parameters", "rope_scaling", "rope_theta", "rotary_emb_base", "rotary_pct",
             "partial_rotary_factor", "rope_interleaved"}  # fmt: skip
MAX_LAYERS = 1024  # that attention_types may stand for
LAYER_KEYS = {"attention_types", "attention_layers", "layer_types"}


def architecture_of(config):
    """The `Architecture` of a config.json; raises `InputError` for any other."""
    name = config.get("model_type")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise InputError(
            f"config.json has the model_type {_shown(name)}, expected one of "
            f"{', '.join(ARCHITECTURES)}: convert another model"
        )
    return ARCHITECTURES[name]


def read_config(config, has_head):
    """The `ModelConfig` of a config.json.

    Args:
        has_head: whether the weights have an output head, which says whether embeddings are tied
            where config.json does not.

    Raises:
        InputError: it is of no architecture of ours, or incomplete, or has what we do not compute.
    """
    architecture = architecture_of(config)
    fields = {**PLAIN, **architecture.fixed}
    for key, field in architecture.keys.items():
        if config.get(key) is not None:
            fields[field] = config[key]
        elif field not in OPTIONAL:
            raise InputError(f"config.json has no {key}: copy the whole config.json")
    fields.setdefault("tie_embeddings", not has_head)
    fields["activation"] = _read_activation(config, architecture)
    if fields["position"] == "rope":
        fields |= _read_rope(config, fields)
    _check_neutral(config, architecture)
    _check_all_is_known(config, architecture)
    model_config = ModelConfig(**fields)
    if model_config.window and not _has_local_layers(config, model_config.num_layers):
        return dataclasses.replace(model_config, window=None)
    return model_config


def _read_activation(config, architecture):
    name = config.get(architecture.activation_key)
    if not isinstance(name, str) or name not in architecture.activations:
        raise InputError(
            f"config.json has the {architecture.activation_key} {_shown(name)}, expected one of "
            f"{', '.join(architecture.activations)}: convert another model"
        )
    return architecture.activations[name]


def _read_rope(config, fields):
    """`rope_base` and `rotary_dim`: transformers 5 has them in one place, 4 in others."""
    rope = config.get("rope_parameters")
    if rope is None:
        base = config.get("rope_theta", config.get("rotary_emb_base"))
        factor = config.get("partial_rotary_factor", config.get("rotary_pct", 1.0))
        rope = {"rope_theta": base, "partial_rotary_factor": factor}
        if config.get("rope_scaling") is not None:
            raise _not_computed("rope_scaling", config["rope_scaling"], None)
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise _not_computed("rope_parameters", rope, {"rope_type": "default"})
    if unknown := rope.keys() - {"rope_type", "rope_theta", "partial_rotary_factor"}:
        raise _not_computed(f"rope_parameters.{min(unknown)}", rope[min(unknown)], None)
    if config.get("rope_interleaved"):
        raise _not_computed("rope_interleaved", config["rope_interleaved"], False)
    if rope.get("rope_theta") is None:
        raise InputError(
            "config.json has no rope_theta (or rope_parameters), and a wrong one gives wrong text: "
            "copy the whole config.json"
        )
    factor = rope.get("partial_rotary_factor", 1.0)
    rotary = {"rope_base": rope["rope_theta"]}
    if factor == 1:
        return rotary
    # The tensors of others are in another order.
    if fields["norm"] != "layer" or type(factor) is not float or not 0 < factor < 1:
        raise _not_computed("partial_rotary_factor", factor, 1)
    return {**rotary, "rotary_dim": int(ModelConfig(**fields).head_dim * factor)}


def _has_local_layers(config, num_layers):
    """Whether each second layer of a GPT-Neo is local; no other order is computed here."""
    layers = config.get("attention_layers")
    if layers is None:
        try:
            types = config["attention_types"]
            layers = [kind for kinds, times in types for kind in kinds * min(times, MAX_LAYERS)]
        except (KeyError, TypeError, ValueError):
            layers = None
    if isinstance(layers, list) and len(layers) == num_layers:
        if layers == [("global", "local")[i % 2] for i in range(num_layers)]:
            return True
        if layers == ["global"] * num_layers:
            return False
    raise _not_computed("attention_types", layers, "global and local in turn")


def _check_neutral(config, architecture):
    for key, value in architecture.neutral.items():
        if config.get(key, value) != value:
            raise _not_computed(key, config[key], value)
    types = config.get("layer_types")
    if types is not None and not (
        isinstance(types, list) and all(kind == "full_attention" for kind in types)
    ):
        raise _not_computed("layer_types", types, "full_attention")


def _check_all_is_known(config, architecture):
    known = {*architecture.keys, *architecture.neutral, architecture.activation_key}
    for key in sorted(config.keys() - known - HARMLESS - ROPE_KEYS - LAYER_KEYS):
        if config[key] not in (None, False):
            raise InputError(
                f"config.json has {key} = {_shown(config[key])}, which neo_keras does not know: "
                "it may change what the model computes; remove the key if it does not"
            )


def _shown(value):
    """A value of config.json as that spells it."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _not_computed(key, got, expected):
    return InputError(
        f"config.json has {key} = {_shown(got)}, and neo_keras computes {_shown(expected)} "
        "only: convert another model"
    )


def write_config(name, config):
    """The config.json, a dict, of a `ModelConfig` that `target_of` finds to be `name`."""
    architecture = ARCHITECTURES[name]
    names = {ours: theirs for theirs, ours in reversed(architecture.activations.items())}
    written = {
        "architectures": [architecture.class_name],
        "model_type": name,
        "_name_or_path": "neo_keras",
        "dtype": "float32",
        "torch_dtype": "float32",
        **{key: getattr(config, field) for key, field in architecture.keys.items()},
        architecture.activation_key: names[config.activation],
        **architecture.neutral,
    }
    if config.position == "rope":
        factor = config.rotary_dim / config.head_dim
        rope = {"rope_type": "default", "rope_theta": config.rope_base}
        written |= {"rope_parameters": rope, "rope_theta": config.rope_base, "rope_scaling": None}
        if config.norm == "layer":  # GPT-NeoX, where a missing one is a quarter
            rope["partial_rotary_factor"] = factor
            written |= {"rotary_pct": factor, "rotary_emb_base": config.rope_base}
    if "window" in architecture.keys.values():
        layers = [("global", "local")[i % 2] for i in range(config.num_layers)]
        written |= {"attention_types": [[layers, 1]], "attention_layers": layers}
    return written
