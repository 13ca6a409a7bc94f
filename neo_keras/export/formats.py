"""The formats of an export. A new one is a row of a table, and a module that writes it."""

import dataclasses
import importlib
from collections.abc import Callable

from neo_keras.choices import ARCHITECTURES
from neo_keras.errors import InputError


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        file_name: of the file or directory, with "{}" for the quantization.
        module: of `neo_keras.export`. Its `write(source, path, quantization)` writes what `Source`
            has to a path, runs it in the runtime that it is for, and returns a
            `parity.Measurement`. What it has to have besides, its `check_installed()` looks for.
        runtime: what runs it, for people.
        architectures: of the models that can have it.
        choose: function of the quantizations asked for, that returns those that are written.
        is_default: written unless others are asked for.
        is_timed: its files are timed, by `benchmark`.
        generates: `generate.py` takes it.
        hint: what to do with it, for people, with "{}" for its path as a shell takes it.
    """

    file_name: str
    module: str
    runtime: str
    architectures: tuple[str, ...] = ARCHITECTURES
    choose: Callable = list
    is_default: bool = True
    is_timed: bool = False
    generates: bool = False
    hint: str = ""

    def load_module(self):
        """Imports what writes it.

        Raises:
            InputError: packages are missing, as in an environment for an Intel XPU.
        """
        try:
            module = importlib.import_module(f"neo_keras.export.{self.module}")
        except ImportError as error:
            raise InputError(
                f"packages that write {self.file_name.format('*')} are missing ({error}): export "
                "in an environment of requirements.txt, or give other --formats"
            ) from None
        getattr(module, "check_installed", lambda: None)()
        return module


DECODER_ONLY = ARCHITECTURES[:1]
FORMATS = {
    "saved_model": Format(
        "saved_model", "saved_model", "TensorFlow", generates=True,
        choose=lambda quantizations: ["float32"],
    ),
    "tflite": Format("model-{}.tflite", "tflite", "LiteRT", is_timed=True, generates=True),
    "litertlm": Format("model-{}.litertlm", "litertlm", "LiteRT-LM", DECODER_ONLY),
    "web": Format(
        "web", "web", "a browser", DECODER_ONLY, is_default=False,
        choose=lambda quantizations: ["int8"] if "int8" in quantizations else quantizations[:1],
        hint="the page: python -m http.server --directory {}, then http://localhost:8000",
    ),
}  # fmt: skip


def formats_for(architecture, names=None):
    """The formats that a model is exported in.

    Args:
        architecture: of the model.
        names: some of `FORMATS`; None: all defaults that the model can have.

    Returns:
        list of str.

    Raises:
        InputError: there is no such format, or the model cannot have it.
    """
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
    """What all files of an export are made from.

    Attributes:
        model: `GPT` or `EncoderDecoder`, in float32.
        tokenizer: `Tokenizer`.
        reference: `parity.Reference`, what a file is held against.
        flatbuffers: what quantizations have in common; see `tflite.convert`.
    """

    model: object
    tokenizer: object
    reference: object
    flatbuffers: dict = dataclasses.field(default_factory=dict)
