"""What a path is that is not what was asked for, and what to give instead."""

import fnmatch
import pathlib

from neo_keras.errors import InputError

# What a directory holds, after a slash, or what a file is called: the first that fits counts.
KINDS = {
    "/sw.js": "it is a web page, which python -m http.server --directory serves",
    "/saved_model.pb": "it is a SavedModel, which generate.py takes",
    "/report.json": "it holds exported models",
    "/best.keras": "its config.json is missing, damaged or not of neo_keras",
    "/": "it has no config.json of neo_keras",
    "*.keras": "it is a checkpoint",
    "*.tflite": "it is an exported model, which generate.py takes",
    "*.litertlm": "it is for LiteRT-LM, which `litert-lm run` runs",
    "*.gguf": "it is for llama.cpp",
    "*.safetensors": "it has weights alone",
    "*.pb": "it is a part of a SavedModel, which is a directory",
    "tokenizer.json": "it is a tokenizer",
    "*.json": "it is a part of a model",
    "*.jsonl": "it is text, which train.py trains on",
    "*.tsv": "it is text, which train.py trains on",
    "*.txt": "it is text, which train.py trains on",
    "*": "it is a file of another kind",
}


def mistaken(path, expected, also=()):
    """The `InputError` for a path that is not what was expected, such as "a run directory".

    It proposes a run above or below the path, or one of `also` in it: names of what can be given.
    """
    path = pathlib.Path(path)
    if not path.exists():
        advice = "it does not exist; train a model with train.py, or give the path of one"
        return InputError(f"{path} is not {expected}: {advice}")
    names = [path.name.lower()]
    if path.is_dir():
        names = [*(f"/{child.name}" for child in path.iterdir()), "/"]
    what = next(what for pattern, what in KINDS.items() if fnmatch.filter(names, pattern))
    runs = [p for p in (*path.parents, *sorted(path.glob("*/"))) if (p / "best.keras").is_file()]
    instead = [path / name for name in also if (path / name).exists()] + runs
    advice = f"; give {instead[0]}" if instead else ""
    return InputError(f"{path} is not {expected}: {what}{advice}")
