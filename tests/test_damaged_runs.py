"""Runs whose files were damaged, or made to do harm: one line, and no other model."""

import io
import json
import shutil
import zipfile

import h5py
import pytest

from neo_keras.errors import InputError, one_line_errors
from neo_keras.run_directory.directory import RunDirectory

pytest_plugins = ["export_fixtures"]


@pytest.fixture
def run(tiny_run, tmp_path):
    shutil.copytree(tiny_run.path, tmp_path / "run")
    return RunDirectory.open(tmp_path / "run")


def test_a_bit_of_a_weight(run):
    content = bytearray(run.best.read_bytes())
    with zipfile.ZipFile(run.best) as archive:
        info = archive.getinfo("model.weights.h5")
        weights = archive.read(info)
    content[content.index(weights) + info.file_size // 2] ^= 1
    run.best.write_bytes(content)
    with pytest.raises(InputError, match="best.keras is damaged .its checksum is wrong"):
        run.load_model()


def test_what_expands(run):
    with zipfile.ZipFile(run.best) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(run.best, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    with pytest.raises(InputError, match="best.keras is damaged .it is compressed"):
        run.load_model()


def test_an_array_that_is_not_all_there(run):
    with zipfile.ZipFile(run.best) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        name = file.visititems(lambda name, node: name if getattr(node, "shape", ()) else None)
        shape = file[name].shape
        del file[name]
        file.create_dataset(name, shape, "float32", chunks=True)  # zeros, if it were read
    with zipfile.ZipFile(run.best, "w") as archive:
        for member, content in {**members, "model.weights.h5": weights.getvalue()}.items():
            archive.writestr(member, content)
    with pytest.raises(InputError, match=f"damaged .*its array {name} is not all there"):
        run.load_model()


def test_a_record_that_was_changed(run):
    with zipfile.ZipFile(run.best) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    record = {**json.loads(members["run.json"]), "step": "x"}
    with zipfile.ZipFile(run.best, "w") as archive:
        for name, content in {**members, "run.json": json.dumps(record)}.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="damaged .its run.json was changed"):
        run.read_best()


def test_an_error_that_quotes_a_damaged_file(capsys):
    with pytest.raises(SystemExit), one_line_errors():
        raise InputError("expected a norm, got " + "x\n" * 10**5 + "; copy it back")
    line = capsys.readouterr().err
    assert line.startswith("error: expected a norm, got x x") and line.count("\n") == 1
    assert line.endswith("x ; copy it back\n") and len(line) < 1100


@pytest.mark.parametrize(
    "name, value",
    [("activation", "relu"), ("num_kv_heads", 1), ("max_seq_len", 10**9), ("num_layers", 10**9)],
)
def test_a_configuration_that_is_not_the_models(run, name, value):
    path = run.path / "config.json"
    config = json.loads(path.read_text())
    config["model"][name] = value
    path.write_text(json.dumps(config))
    with pytest.raises(
        InputError, match="best.keras is damaged .it is of another model than config"
    ):
        RunDirectory.open(run.path).load_model()


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: "[" * 100_000,
        lambda config: json.dumps({**config, "data": {"sources": [None], "sha256": ""}}),
        lambda config: json.dumps({**config, "data": {"sources": 3, "sha256": ""}}),
        lambda config: json.dumps({**config, "model": {**config["model"], "embedding_norm": None}}),
        lambda config: json.dumps({**config, "training": {"steps": 3, "sliding_window_eval": []}}),
    ],
)
def test_a_configuration_of_other_types(run, damage):
    path = run.path / "config.json"
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(InputError, match="config.json"):
        RunDirectory.open(run.path)
