"""The weights that a run's adapters add to. They are no part of the run."""

import dataclasses

from neo_keras.errors import InputError
from neo_keras.weights.open import open_pretrained
from neo_keras.weights.peft import Adapter


def open_base(run):
    """The `Pretrained` that a run with adapters began from; or `InputError`."""
    path, expected = run.base["path"], run.base["sha256"]
    try:
        pretrained = open_pretrained(path, run.model_config.max_seq_len)
    except InputError as error:
        raise InputError(
            f"{run.path} holds adapters only, and the weights that they add to cannot be read: "
            f"{error}; put back there what it was trained on"
        ) from None
    config = dataclasses.replace(pretrained.config, dropout=run.model_config.dropout)
    got = pretrained.sha256()
    if got != expected or config != run.model_config:
        raise InputError(
            f"{path} is not what the adapters of {run.path} were trained on: expected weights of "
            f"SHA-256 {expected}, got {got}; put those back there, or train anew with --overwrite"
        )
    return pretrained


def load_adapted(run):
    """(`GPT` with the best adapters of a run, the `Pretrained` that they add to)."""
    from neo_keras.model.gpt import GPT
    from neo_keras.model.lora import add_lora

    run.read_best()  # before the weights are read, which may be many
    pretrained = open_base(run)
    model = GPT(run.model_config, dtype="float32")
    pretrained.fill(model)
    add_lora(model, run.training_config.lora)
    run.load_weights(model, run.best)
    return model, pretrained


def load_adapter(run):
    """The best adapters of a run, for PEFT: `weights.peft.Adapter`."""
    from neo_keras.model.lora import adapters

    model, pretrained = load_adapted(run)
    if pretrained.adapter:
        raise InputError(
            f"{run.path} was trained on {pretrained.path}, which is an adapter itself, and PEFT "
            "adds one to a whole model: export the format huggingface"
        )
    factors = {(block, name): adapter.factors() for block, name, adapter in adapters(model)}
    lora = run.training_config.lora
    return Adapter(pretrained.path, pretrained.architecture, model.config, lora, factors)


def load_merged(run):
    """A plain `GPT` that computes what the best adapters of a run make of its base."""
    from neo_keras.model.lora import merge_lora

    return merge_lora(load_adapted(run)[0])
