"""Moves weights between a `GPT` and the tensors of a file, by the tables of `layouts`.

A file is an object with `names`, a set of str; `shape(name)`, a tuple; and `read(name)`, a float32
array. "form" is the column of the table that names its tensors: "huggingface" or "gguf".
"""

import dataclasses
import math
import re

import numpy as np

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError, shortened
from neo_keras.weights.layouts import ARCHITECTURES, IRRELEVANT, PLAIN

# Masks and frequencies that older files keep, which follow from the configuration.
BUFFERS = re.compile(r"\.(attn|attention)\.(masked_)?bias$|rotary_emb\.inv_freq$")
HEAD = "token_embedding/reverse_embeddings"
POSITIONS = "position_embedding/embeddings"
# Fields that may become this when a model leaves: what is added or folded changes no logit.
WIDENINGS = {("use_bias", True), ("qkv_bias", True), ("qk_norm_scale", True),
             ("embedding_norm", False)}  # fmt: skip


def has_head(file, architecture, form):
    """Whether a file has an output head of its own."""
    row = next(row for row in architecture.tensors if row.ours == HEAD)
    return getattr(row, form) in file.names


def check_sizes(file, architecture, form, config):
    """Raises `InputError` where a configuration describes more than a file has.

    So nothing is allocated that a damaged or hostile file only claims.
    """
    if config.num_layers > len(file.names):
        raise InputError(
            f"the file has {len(file.names)} tensors, too few for {config.num_layers} layers: copy "
            "it again"
        )
    heads = config.num_heads + 2 * config.num_kv_heads
    expected = {
        "token_embedding/embeddings": config.vocab_size * config.hidden_dim,
        POSITIONS: config.hidden_dim * config.max_seq_len,
        "block_{}/attention/qkv/kernel": config.hidden_dim * heads * config.head_dim,
        "block_{}/feed_forward/contract_kernel": config.hidden_dim * config.feed_forward_dim,
    }
    for row in architecture.tensors:
        if row.ours in expected:
            names = _names_in(file, row, form, 0)
            got = sum(math.prod(file.shape(name)) for name in names)
            least = expected[row.ours]
            if got < least if row.ours == POSITIONS else got != least:
                raise InputError(
                    f"{names[0]} has {got} numbers, and the configuration asks for {least}: the "
                    "files are of different models; copy them again"
                )


def fill(model, file, architecture, form):
    """Assigns all tensors of a file to a model, one at a time.

    Raises:
        InputError: one is missing, of another shape, or more than the model has.
    """
    rows, used = {row.ours: row for row in architecture.tensors}, set()
    for variable in model.variables:
        path, block = _path_and_block(variable)
        if path is None:
            continue
        names = _names_in(file, rows[path], form, block)
        used.update(names)
        transform = rows[path].transform
        if form == "gguf":
            transform = rows[path].gguf_transform or transform
        try:
            array = transform.read([file.read(name) for name in names], model.config)
            if path == POSITIONS:
                array = array[: model.config.max_seq_len]
            if array.shape != tuple(variable.shape):
                raise ValueError(f"{array.shape} for {tuple(variable.shape)}")
        except ValueError as error:
            shapes = [tuple(file.shape(name)) for name in names]
            raise InputError(
                f"{names[0]} is of another shape than config.json says, got {shortened(shapes)} "
                f"({error}): copy the files of one model"
            ) from None
        variable.assign(array)
    if form == "huggingface":
        _check_constants(file, architecture, model.config, used)
    if model.config.tie_embeddings:  # some files have the embedding twice
        used.add(getattr(rows[HEAD], form))
    if extra := sorted(name for name in file.names - used if not BUFFERS.search(name)):
        raise InputError(
            f"the file has {len(extra)} tensors that its architecture does not have, such as "
            f"{shortened(extra[0])}: neo_keras would not compute what they are for"
        )


def _path_and_block(variable):
    """("block_{}/...", number of the block) of a variable; (None, None) of what no file has."""
    if re.search("seed_generator|/drafter/|_lora/", variable.path):
        return None, None
    path = variable.path.split("/", 1)[1]
    block = re.match(r"block_(\d+)/", path)
    return re.sub(r"^block_\d+/", "block_{}/", path), int(block[1]) if block else None


def tensor_names(row, form, block):
    """The tensors of a row, in a block: list of str."""
    name = getattr(row, form).replace("{}", str(block))
    choices = re.search(r"\{(.*)\}", name)
    if not choices:
        return [name]
    return [name.replace(choices[0], choice) for choice in choices[1].split(",")]


def _names_in(file, row, form, block):
    """As `tensor_names`, as a file has them: older ones leave out the first part."""
    names = tensor_names(row, form, block)
    short = [name.removeprefix("transformer.") for name in names]
    found = names if names[0] in file.names else short
    if missing := [name for name, there in zip(names, found) if there not in file.names]:
        raise InputError(f"the file has no tensor {missing[0]}: copy all files of the model")
    return found


def _check_constants(file, architecture, config, used):
    for name, value in architecture.constants.items():
        for block in range(config.num_layers):
            there = name.replace("{}", str(block))
            if there not in file.names:
                raise InputError(f"the file has no tensor {there}: copy all files of the model")
            used.add(there)
            if not np.allclose(file.read(there), value, rtol=1e-6):
                raise InputError(
                    f"{there} is {file.read(there).tolist()}, and neo_keras computes {value} only: "
                    "convert another model"
                )


def tensors_of(model, architecture, form):
    """Yields (name, float32 array) of all that a file of a model has.

    Args:
        model: `GPT` of a configuration that `target_of` returned.
    """
    rows = {row.ours: row for row in architecture.tensors}
    for variable in model.variables:
        path, block = _path_and_block(variable)
        if path is None:
            continue
        names = tensor_names(rows[path], form, block)
        transform = rows[path].transform
        if form == "gguf":
            transform = rows[path].gguf_transform or transform
        arrays = transform.write(variable.numpy(), model.config, len(names))
        yield from zip(names, map(np.ascontiguousarray, arrays))
    if form == "huggingface":
        for name, value in architecture.constants.items():
            for block in range(model.config.num_layers):
                yield name.replace("{}", str(block)), np.array(value, "float32")


def target_of(config, form):
    """What a model leaves as: (name of an architecture, the `ModelConfig` that it has there).

    Raises:
        InputError: no architecture holds it.
    """
    for name, architecture in ARCHITECTURES.items():
        if (changes := _changes_for(config, architecture, form)) is not None:
            irrelevant = {"dropout": 0.0, "num_speculative_tokens": 0}
            return name, dataclasses.replace(config, **changes, **irrelevant)
    raise InputError(f"{form} cannot hold this model: {_why_not(config, form)}")


def _changes_for(config, architecture, form):
    """Fields that change, to be held by an architecture; None where it cannot hold the model."""
    activation = architecture.gguf_activation
    activations = architecture.activations.values() if form == "huggingface" else [activation]
    if not getattr(architecture, form, True) or config.activation not in activations:
        return None
    head_dim = config.hidden_dim // config.num_heads
    usual = {
        "num_kv_heads": config.num_heads, "head_dim": head_dim,
        "rotary_dim": config.head_dim - config.head_dim % 2,
        "feed_forward_dim": 4 * config.hidden_dim, **PLAIN, **architecture.fixed,
    }  # fmt: skip
    free = {*architecture.keys.values(), *IRRELEVANT, "activation"}
    if usual["position"] == "rope":
        free.add("rope_base")
        if usual["norm"] == "layer":  # GPT-NeoX
            free.add("rotary_dim")
    if "window" in free and config.window is None:
        return None
    changes = {}
    for field in dataclasses.fields(ModelConfig):
        if field.name in free or getattr(config, field.name) == usual[field.name]:
            continue
        if (field.name, usual[field.name]) not in WIDENINGS:
            return None
        changes[field.name] = usual[field.name]
    if config.embedding_norm:
        if config.position != "rope":  # else it is of the token alone, and folds into its row
            return None
        changes["tie_embeddings"] = False
    return changes


def _why_not(config, form):
    """For people: what no other program computes, and what to train instead."""
    reasons = {
        "an encoder-decoder of ours is no architecture of other programs": (
            config.architecture != "decoder-only"
        ),
        "no other program has an n-gram table": config.max_ngram > 1,
        "no other program has sinusoidal positions": config.position == "sinusoidal",
        "no other program has norms after the sums": config.norm_position == "post",
        f"a model with {config.activation} and these norms is none of its architectures": True,
    }
    reason = next(reason for reason, holds in reasons.items() if holds)
    return f"{reason}; train one with --preset portable"


def as_target(model, target):
    """A `GPT` of a configuration that `target_of` returned, with the logits of `model`."""
    from neo_keras.model.gpt import GPT

    weights = {v.path.split("/", 1)[1]: v.numpy() for v in model.variables}
    if model.config.embedding_norm and not target.embedding_norm:
        weights.setdefault(HEAD, weights["token_embedding/embeddings"].T)
        rows = model.embedding_norm(model.token_embedding.embeddings)
        weights["token_embedding/embeddings"] = np.asarray(rows)
    widened = GPT(target)
    for variable in widened.variables:
        path, _ = _path_and_block(variable)
        if path is None:
            continue
        is_scale = path.endswith(("scale", "gamma"))
        added = (np.ones if is_scale else np.zeros)(variable.shape, "float32")
        variable.assign(weights.get(variable.path.split("/", 1)[1], added))
    return widened
