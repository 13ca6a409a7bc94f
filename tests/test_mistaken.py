"""What is neither a run nor a model is called by what it is, with what to give instead."""

import pytest
from tiny_models import ALPHABET, SHAPE

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import InputError
from neo_keras.generation.flatbuffer import check_signatures
from neo_keras.generation.load import load_engine
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.tokenizer import Tokenizer

FILES = (
    """
my run/best.keras my run/last.keras my run/history.csv
my run/export/report.json my run/export/model-int8.tflite my run/export/model-int8.litertlm
my run/export/saved_model/saved_model.pb my run/export/web/sw.js
my run/export/web/index.html my run/export/web/tokenizer.json my run/export/web/model.tflite.0
a.gguf b.safetensors c.txt d.JSONL e.tsv f lost run/best.keras lost run/config.json empty/f
empty.json
""".replace("my run", "my_run")
    .replace("lost run", "lost_run")
    .split()
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a run and other things."""
    monkeypatch.chdir(tmp_path)
    tokenizer = Tokenizer.characters_of(ALPHABET)
    run = RunDirectory("my run")
    run.create(ModelConfig(**SHAPE), TrainingConfig(), {"sources": [], "sha256": ""}, tokenizer, "")
    for name in FILES:
        path = tmp_path / name.replace("_run", " run")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("path", "what", "instead"),
    [
        ("my run/best.keras", "it is a checkpoint", "my run"),
        ("my run/last.keras", "it is a checkpoint", "my run"),
        ("my run/tokenizer.json", "it is a tokenizer", "my run"),
        ("my run/config.json", "it is a part of a model", "my run"),
        ("my run/history.csv", "it is a file of another kind", "my run"),
        ("my run/export/", "it holds exported models", "my run/export/model-int8.tflite"),
        ("my run/export/web", "it is a web page, which python -m http.server", "my run"),
        ("my run/export/web/index.html", "it is a file of another kind", "my run"),
        ("my run/export/web/tokenizer.json", "it is a tokenizer", "my run"),
        ("my run/export/web/model.tflite.0", "it is a part of the model of a web page", "my run"),
        ("my run/export/model-int8.litertlm", "it is for LiteRT-LM, which `litert-lm", "my run"),
        ("my run/export/saved_model/saved_model.pb", "it is a part of a SavedModel", "my run"),
        ("b.safetensors", "it has weights alone, of which train.py takes the folder", None),
        ("c.txt", "it is text, which train.py trains on", None),
        ("d.JSONL", "it is text, which train.py trains on", None),
        ("e.tsv", "it is text, which train.py trains on", None),
        ("f", "it is a file of another kind", None),
        ("empty.json", "it is a file of another kind", None),
        ("empty", "it has no config.json of neo_keras", None),
        ("lost run", "its config.json is missing, damaged or not of neo_keras", None),
        (".", "it has no config.json of neo_keras", "lost run"),
        ("nowhere", "it does not exist; train a model with train.py", None),
    ],
)
def test_one_line_for_generate_and_for_export(place, path, what, instead):
    for open_model, expected in (
        (load_engine, "a run directory, a SavedModel, a .tflite file or weights of others"),
        (RunDirectory.open, "a run directory"),
    ):
        with pytest.raises(InputError) as raised:
            open_model(path)
        line = str(raised.value)
        assert line.startswith(f"{path.rstrip('/')} is not {expected}: {what}")
        if instead and expected.startswith("a run directory,"):
            assert line.endswith(f"; give {instead}")
        elif instead:  # export.py takes a run only
            assert line.endswith(f"; give {instead.split('/')[0]}")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("my run/export/model-int8.tflite", "it is an exported model, which generate.py takes"),
        ("my run/export/saved_model", "it is a SavedModel, which generate.py takes"),
        ("a.gguf", "it has weights of others, which train.py takes with --from"),
    ],
)
def test_what_export_does_not_take(place, path, what):
    with pytest.raises(InputError, match=f"{path} is not a run directory: {what}"):
        RunDirectory.open(path)


def test_the_first_part_of_the_model_of_a_web_page(tmp_path):
    (tmp_path / "model.tflite.0").write_bytes(b"\x1c\0\0\0TFL3")
    with pytest.raises(InputError, match="it is a part of the model of a web page"):
        load_engine(tmp_path / "model.tflite.0")


def test_the_model_of_a_web_page():
    names = dict.fromkeys(["prefill", "sample_64", "sample_97"])
    with pytest.raises(InputError, match="^web/model.tflite is the model of a web page: give the "):
        check_signatures(names, "web/model.tflite", ModelConfig(**SHAPE))
