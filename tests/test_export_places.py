"""An export replaces an earlier export, and nothing else; a write that fails changes nothing."""

import errno
import json
import os
import shutil
import sys
import types

import pytest
import tensorflow as tf
from tiny_models import ALPHABET, SHAPE

from neo_keras.atomic_files import PARTIAL_PREFIX, atomic_write
from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import FailedError, InputError
from neo_keras.export import exporter, web
from neo_keras.export.benchmark import run_benchmark
from neo_keras.export.formats import Source
from neo_keras.export.signatures import write_signatures
from neo_keras.generation import artifact
from neo_keras.model.gpt import GPT
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.tokenizer import Tokenizer

FORMATS = ["saved_model", "tflite", "web"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run without weights: what is refused is refused before they are wanted."""
    monkeypatch.setattr(web, "check_installed", lambda: None)
    run = RunDirectory(tmp_path / "run")
    tokenizer = Tokenizer.characters_of(ALPHABET)
    data = {"sources": [], "sha256": ""}
    run.create(ModelConfig(**SHAPE), TrainingConfig(), data, tokenizer, "abc" * 50)
    return run


def files(path):
    return {p.relative_to(path): p.is_dir() or p.read_bytes() for p in path.rglob("*")}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("web/index.html", "<p>mine"),
        ("web/config.json", '{"format": "of something else"}'),
        ("web/config.json", "[1]"),
        ("saved_model/saved_model.pb", "of another model"),
        ("saved_model/thesis.tex", "years of work"),
        ("model-int8.tflite/thesis.tex", "years of work"),
        ("README.md", "# My project\n"),
        ("README.md", "# My project is not trained with neo_keras at all\n"),
        ("report.json", '{"mine": 1}'),
        ("report.json", "no JSON"),
        ("report.json", b"\xff"),
    ],
)
def test_what_a_person_has_there_stays(run, tmp_path, name, content):
    path = tmp_path / "place" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = files(tmp_path)
    taken = tmp_path / "place" / name.split("/")[0]
    with pytest.raises(InputError, match=f"^{taken} was not written by export.py, .* --out$"):
        exporter.export_run(run, FORMATS, ["int8"], tmp_path / "place")
    assert files(tmp_path) == before


def test_other_names_are_free(run, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").touch()
    with pytest.raises(InputError, match="best.keras"):  # a later reason
        exporter.export_run(run, ["tflite"], ["int8"], tmp_path)


def test_an_earlier_export_may_be_replaced(run, tmp_path):
    names = ("saved_model", "web", "empty", "model-int8.tflite", "report.json", "README.md")
    for name in names[:3]:
        (tmp_path / name).mkdir()
    artifact.pack_saved_model(tmp_path / "saved_model", run.model_config, run.load_tokenizer())
    config = artifact.describe(run.model_config, "int8")
    (tmp_path / "web" / "config.json").write_text(config)
    (tmp_path / "web" / "sw.js").touch()
    (tmp_path / "model-int8.tflite").touch()
    (tmp_path / "report.json").write_text(json.dumps([{"file": "(Keras)"}]))
    exporter.check_replaceable([tmp_path / name for name in names[:-1]])
    for title in (
        "# A GPT exported with neo_keras\n",
        "# A GPT trained with neo_keras\n",  # as earlier versions wrote
        "# An encoder-decoder trained with neo_keras\n",
    ):
        (tmp_path / "README.md").write_text(title)
        exporter.check_replaceable([tmp_path / name for name in names])


def test_tensorflow_has_no_room(tmp_path, monkeypatch):
    def save(module, path, signatures):
        message = f"{{{{node SaveV2}}}} {path}/variables/part; No space left on device [Op:SaveV2]"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    def add_one(model, bias):
        return {"add": (lambda x: {"y": x + 1}, [tf.TensorSpec([3], name="x")])}

    monkeypatch.setattr(tf.saved_model, "save", save)
    model = types.SimpleNamespace(config=ModelConfig(**SHAPE))
    with pytest.raises(OSError) as raised, atomic_write(tmp_path / "saved_model") as partial:
        write_signatures(Source(model), partial, add_one)
    path = tmp_path / "saved_model"
    assert raised.value.strerror == f"cannot write {path} ({path}: No space left on device)"


def test_the_first_error_is_told_where_nothing_can_be_removed(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(OSError, match=f"^.*cannot write {tmp_path}/file .No space left"):
        with atomic_write(tmp_path / "file"):
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("failing", [1, 2])
def test_a_directory_that_cannot_be_replaced_is_as_it_was(tmp_path, monkeypatch, failing):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "one").touch()
    calls = []

    def replace(source, target):
        calls.append(source)
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        shutil.move(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output error.; what stood there is as it was"):
        with atomic_write(tmp_path / "web") as partial:
            partial.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["web", "one"]


def test_a_directory_is_replaced_whole(tmp_path):
    for name in ("one", "two"):
        with atomic_write(tmp_path / "web") as partial:
            assert partial.name.startswith(PARTIAL_PREFIX)
            partial.mkdir()
            (partial / name).touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["web", "two"]


def test_ctrl_c_does_not_reach_the_process_that_times_a_file(tmp_path, monkeypatch):
    group = f"#!{sys.executable}\nimport json, os\nprint(json.dumps(os.getpgrp()))\n"
    (tmp_path / "python").write_text(group)
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert run_benchmark("model.tflite") != os.getpgrp()


def test_a_model_whose_training_diverged(run, tmp_path):
    model = GPT(run.model_config)
    model.final_norm.scale.assign(model.final_norm.scale * float("nan"))
    run.save_best(model)
    with pytest.raises(FailedError, match="logits are not finite: its training diverged"):
        exporter.export_run(run, FORMATS, out=tmp_path / "place")
    assert not (tmp_path / "place").exists()
