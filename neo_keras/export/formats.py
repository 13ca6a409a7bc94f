"""The formats of an export. A new one is a row of a table, and a module that writes it."""

import dataclasses
import importlib
from collections.abc import Callable

from neo_keras.choices import ARCHITECTURES
from neo_keras.errors import InputError
from neo_keras.export.quantization import QUANTIZATIONS


@dataclasses.dataclass(frozen=True)
class Format:
    """One format. The module of `neo_keras.export` that writes it has its name.

    `write(source, path, quantization)` there writes what a `Source` has to a path, runs it in the
    runtime that it is for, and returns a `parity.Measurement`. If there are such functions,
    `check_installed()` looks for what else it needs, and `check_config(model_config)` raises
    `InputError` where it cannot hold a model.
    """

    file_name: str  # of the file or directory, with "{}" for the quantization
    runtime: str  # what runs it, for people
    architectures: tuple[str, ...] = ARCHITECTURES  # of the models that can have it
    choose: Callable = list  # of the quantizations asked for, those that are written
    is_default: bool = True  # written unless others are asked for
    is_timed: bool = False  # by `benchmark`
    generates: bool = False  # `generate.py` takes it
    needs_adapter: bool = False  # it is of what a run trained with --lora
    hint: str = ""  # what to do with it, for people, with "{}" for its path as a shell takes it


DECODER_ONLY = ARCHITECTURES[:1]
FORMATS = {
    "saved_model": Format(
        "saved_model", "TensorFlow", generates=True, choose=lambda quantizations: ["float32"]
    ),
    "tflite": Format("model-{}.tflite", "LiteRT", is_timed=True, generates=True),
    "litertlm": Format(
        "model-{}.litertlm", "LiteRT-LM", DECODER_ONLY,
        hint="for a phone: docs/mobile.md; here, after pip install litert-lm: litert-lm run {} "
        "--prompt Hello",
    ),
    "web": Format(
        "web", "a browser", DECODER_ONLY, is_default=False,
        choose=lambda quantizations: ["int8"] if "int8" in quantizations else quantizations[:1],
        hint="the page: python -m http.server --directory {}, then http://localhost:8000",
    ),
    "huggingface": Format(
        "huggingface", "transformers", DECODER_ONLY, is_default=False,
        choose=lambda quantizations: ["float32"],
    ),
    "peft": Format(
        "peft", "PEFT", DECODER_ONLY, is_default=False, needs_adapter=True,
        choose=lambda quantizations: ["float32"],
    ),
    "gguf": Format(
        "model-{}.gguf", "llama.cpp and ollama", DECODER_ONLY, is_default=False,
        choose=lambda quantizations: [q for q in quantizations if QUANTIZATIONS[q].gguf]
        or ["float32"],
    ),
}  # fmt: skip


def load_module(name):
    """Imports what writes a format; raises `InputError` where packages are missing."""
    try:
        module = importlib.import_module(f"neo_keras.export.{name}")
    except ImportError as error:
        raise InputError(
            f"packages that write {FORMATS[name].file_name.format('*')} are missing ({error}): "
            "export in an environment of requirements.txt, or give other --formats"
        ) from None
    getattr(module, "check_installed", lambda: None)()
    return module


def formats_for(architecture, names=None):
    """The formats of a model, by default all defaults that it can have, or `InputError`."""
    possible = [name for name, row in FORMATS.items() if architecture in row.architectures]
    if names is None:
        return [name for name in possible if FORMATS[name].is_default]
    check_names("formats", names, FORMATS)
    if impossible := [name for name in names if name not in possible]:
        raise InputError(
            f"{' and '.join(impossible)}: for decoder-only models, and this is an encoder-decoder; "
            f"it has the formats {','.join(possible)}"
        )
    return list(names)


def to_generate_with(rows):
    """Of the rows of a report, the name of the last file that `generate.py` takes, or None."""
    names = [row["file"] for row in rows if "format" in row and FORMATS[row["format"]].generates]
    return names[-1] if names else None


def check_names(what, names, allowed):
    """Raises `InputError` unless names are some of those allowed, and at least one."""
    if not names or not set(names) <= set(allowed):
        raise InputError(
            f"{what} must be some of {','.join(allowed)}, got {','.join(map(str, names)) or 'none'}"
        )


@dataclasses.dataclass
class Source:
    """What all files of an export are made from."""

    model: object  # `GPT` or `EncoderDecoder`, in float32
    tokenizer: object = None
    reference: object = None  # `parity.Reference`, what a file is held against
    adapter: object = None  # `weights.peft.Adapter`, which is part of the model's weights
    _made: dict = dataclasses.field(default_factory=dict)

    def once(self, key, make):
        """What several files have in common, which takes long to make."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
