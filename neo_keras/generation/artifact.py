"""What an exported file says of itself: the configuration of its model, and the tokenizer.

A `.tflite` has them in a zip archive behind the flatbuffer, a SavedModel in `assets.extra/`: as
`config.json`, `tokenizer.json` and, where there is one, `tokenizer_config.json`.
"""

import dataclasses
import hashlib
import json
import mmap
import pathlib
import zipfile

from neo_keras.atomic_files import parse_json
from neo_keras.config import ModelConfig, from_saved
from neo_keras.errors import InputError
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import CONFIG_NAME

FORMAT = "neo_keras model 1"
NO_TOKENIZER = "{} carries no tokenizer: it is truncated, or not what export.py wrote"
TFLITE_MAGIC = b"TFL3"  # from the fifth byte on
SAVED_MODEL_FILES = ("saved_model.pb", "fingerprint.pb", "variables/variables.*",
                     "assets.extra/tokenizer.json",
                     "assets.extra/tokenizer_config.json")  # fmt: skip
_FILES = ("config.json", "tokenizer.json", CONFIG_NAME)


def describe(model_config, quantization, content=b"", tokenizer_files=("tokenizer.json",)):
    """The text of `config.json`.

    Args:
        quantization: of the weights, such as "int8".
        content: bytes of the flatbuffer or of the `SAVED_MODEL_FILES`, hashed against damage.
        tokenizer_files: names of `Tokenizer.files`: a page asks for no file that is not there.
    """
    config = {
        "format": FORMAT,
        "model": dataclasses.asdict(model_config),
        "quantization": quantization,
        "tokenizer_files": list(tokenizer_files),
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return json.dumps(config, indent=2) + "\n"


def pack_tflite(path, model_config, quantization, tokenizer):
    """Appends the configuration and the tokenizer to a `.tflite` file, once."""
    content, files = pathlib.Path(path).read_bytes(), tokenizer.files()
    config = describe(model_config, quantization, content, files)
    # Not compressed: it would save 700 bytes of megabytes, and cost a program in C (examples/c), or
    # in a browser, a decompressor.
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        for name, text in {"config.json": config, **files}.items():
            entry = zipfile.ZipInfo(name)  # without a date: the same model gives the same file
            entry.external_attr = 0o600 << 16  # else `unzip` makes what nobody may read
            archive.writestr(entry, text)


def pack_saved_model(path, model_config, tokenizer):
    """Writes the configuration and the tokenizer into a SavedModel directory."""
    extra = pathlib.Path(path) / "assets.extra"
    extra.mkdir(exist_ok=True)
    tokenizer.save(extra / "tokenizer.json")
    config = describe(model_config, "float32", _saved_model_bytes(path), tokenizer.files())
    (extra / "config.json").write_text(config, encoding="utf-8")


def mapped(path):
    """The bytes of a file, of which the system reads what is looked at, and keeps no copy."""
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def is_tflite(path):
    """Whether a file begins as a TFLite file does."""
    with open(path, "rb") as file:
        return file.read(8)[4:] == TFLITE_MAGIC


def unpack_tflite(path):
    """(ModelConfig, Tokenizer) of `pack_tflite`; raises `InputError` if there are none."""
    if not is_tflite(path):
        raise InputError(f"{path} is not a TFLite file: give one that export.py wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("what expands may fill all memory")
            names = [name for name in _FILES if name in archive.namelist()]
            texts = {name: archive.read(name).decode() for name in names}
            flatbuffer_size = min(info.header_offset for info in archive.infolist())
    # What a damaged archive raises depends on where the damage is.
    except Exception:
        raise InputError(NO_TOKENIZER.format(path)) from None
    return _parse(texts, path, mapped(path)[:flatbuffer_size])


def unpack_saved_model(path):
    """As `unpack_tflite`, of `pack_saved_model`."""
    extra = pathlib.Path(path) / "assets.extra"
    try:
        names = [name for name in _FILES if (extra / name).exists()]
        texts = {name: (extra / name).read_text("utf-8") for name in names}
    except (OSError, UnicodeDecodeError):
        raise InputError(NO_TOKENIZER.format(path)) from None
    return _parse(texts, path, _saved_model_bytes(path))


def _saved_model_bytes(path):
    files = (f for name in SAVED_MODEL_FILES for f in sorted(pathlib.Path(path).glob(name)))
    return b"".join(file.read_bytes() for file in files)


def _parse(texts, path, content):
    if not {"config.json", "tokenizer.json"} <= texts.keys():
        raise InputError(NO_TOKENIZER.format(path))
    try:
        config = parse_json(texts["config.json"])
        if config["format"] != FORMAT:
            raise ValueError(f"it has the format {config['format']!r}, expected {FORMAT!r}")
        model_config = from_saved(ModelConfig, config["model"])
        size, sha256 = config["size_bytes"], config["sha256"]
        tokenizer = Tokenizer.from_json(texts["tokenizer.json"], config_text=texts.get(CONFIG_NAME))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"what {path} says of itself is damaged or newer ({error}): export it again"
        ) from None
    tokenizer.check_vocab_size(model_config.vocab_size, path)
    # A size of 0: a SavedModel that was exported before this was kept.
    if size and hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"{path} is damaged (its SHA-256 is another): export or copy it again")
    return model_config, tokenizer
