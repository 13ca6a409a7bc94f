"""From a text file to a GPT that writes on your phone, with Keras."""

import importlib
import sys

__version__ = "0.1.0"

# Loaded when first used: importing the package imports neither Keras nor TensorFlow.
_NAMES = {
    "config": ("ModelConfig", "TrainingConfig"),
    "errors": ("InputError",),
    "export.exporter": ("export_model", "export_run"),
    "generation.callback": ("SampleText",),
    "generation.chat": ("Conversation",),
    "generation.decoding": ("generate_text",),
    "generation.load": ("load_engine",),
    "generation.sampler": ("Sampler",),
    "model.attention": ("Attention",),
    "model.blocks": ("FeedForward", "TransformerBlock"),
    "model.encoder_decoder": ("EncoderDecoder",),
    "model.gpt": ("GPT",),
    "presets": ("PRESETS",),
    "run_directory.directory": ("RunDirectory",),
    "text.corpus": ("load_corpus", "open_corpus", "split_corpus"),
    "text.tokenizer": ("Tokenizer", "make_tokenizer"),
    "training.comparison": ("compare",),
    "training.dataset": ("training_dataset", "validation_dataset"),
    "training.optimizer": ("make_optimizer",),
    "training.resolve": ("resolve",),
    "training.start": ("resume_run", "start_run"),
    "training.trainer": ("train",),
    "weights.open": ("open_pretrained",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return [*globals(), *_HOMES]


if sys.modules.get("keras"):  # it costs nothing more, and `load_model` of Keras knows our models
    importlib.import_module(f"{__name__}.model")
