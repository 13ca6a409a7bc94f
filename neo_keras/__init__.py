"""From a text file to a GPT that writes on your phone, with Keras."""

import importlib
import sys

__version__ = "0.1.0"

# Loaded when first used: importing the package imports neither Keras nor TensorFlow.
_HOMES = {
    "EncoderDecoder": "model.encoder_decoder",
    "GPT": "model.gpt",
    "Attention": "model.attention",
    "FeedForward": "model.blocks",
    "TransformerBlock": "model.blocks",
    "InputError": "errors",
    "ModelConfig": "config",
    "PRESETS": "presets",
    "RunDirectory": "run_directory.directory",
    "SampleText": "generation.callback",
    "Sampler": "generation.sampler",
    "Tokenizer": "text.tokenizer",
    "TrainingConfig": "config",
    "export_model": "export.exporter",
    "export_run": "export.exporter",
    "generate_text": "generation.decoding",
    "load_corpus": "text.corpus",
    "load_engine": "generation.load",
    "make_optimizer": "training.optimizer",
    "make_tokenizer": "text.tokenizer_training",
    "open_corpus": "text.corpus",
    "resolve": "training.resolve",
    "resume_run": "training.start",
    "split_corpus": "text.corpus",
    "start_run": "training.start",
    "train": "training.trainer",
    "training_dataset": "training.dataset",
    "validation_dataset": "training.dataset",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return [*globals(), *_HOMES]


if sys.modules.get("keras"):  # it costs nothing more, and `load_model` of Keras knows our models
    importlib.import_module(f"{__name__}.model")
