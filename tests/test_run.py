"""The run directory: what it refuses, and that it says so when a file of it is damaged."""

import errno
import json
import zipfile

import numpy as np
import pytest

from neo_keras.atomic_files import atomic_write, write_json
from neo_keras.config import TrainingConfig
from neo_keras.errors import InputError
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.training.resolve import resolve
from neo_keras.training.train_step import make_train_step

DATA = {"sources": ["/texts/a.txt"], "sha256": "0123abcd"}
TRAINING = TrainingConfig(steps=7, max_seconds=2.5)
VALIDATION_TEXT = "abcdefghijkl" * 3  # longer than the context
TOKENIZER = Tokenizer.characters_of("abcdefghijkl")  # 12 characters and the unknown


@pytest.fixture
def create(tiny_config):
    def make(path, overwrite=False, config=tiny_config):
        run = RunDirectory(path)
        run.create(config, TRAINING, DATA, TOKENIZER, VALIDATION_TEXT, overwrite)
        return run

    return make


@pytest.fixture
def run(create, tmp_path):
    return create(tmp_path / "below" / "run")


def contents(path):
    return {str(p.relative_to(path)): p.is_file() and p.read_bytes() for p in path.rglob("*")}


def test_what_was_created_opens(run, tiny_config):
    opened = RunDirectory.open(str(run.path))
    assert opened.model_config == tiny_config
    assert opened.training_config == TRAINING
    assert opened.data == DATA
    assert opened.load_tokenizer().to_json() == TOKENIZER.to_json()
    assert opened.load_validation_text() == VALIDATION_TEXT
    assert opened.read_history() == []


def test_validation_text_missing(run):
    (run.path / "validation.txt").unlink()
    with pytest.raises(InputError, match="cannot read .*validation.txt"):
        run.load_validation_text()


def test_an_empty_directory_is_free(create, tmp_path):
    assert create(tmp_path).read_config()


def test_a_run_is_not_replaced_unless_asked(run, create):
    before = contents(run.path)
    with pytest.raises(InputError, match="holds a run: .*--resume.*--overwrite.*--run"):
        create(run.path)
    assert contents(run.path) == before


def test_overwrite_leaves_nothing_of_the_run_before(run, create):
    fresh = contents(run.path)
    for path in (run.logs, run.export):
        path.mkdir()
    for name in ("best.keras", "last.keras", "samples.txt", "metrics.json", "history.csv",
                 "loss.png", "logs/old", "export/old"):  # fmt: skip
        (run.path / name).write_text("old")
    after = create(run.path, overwrite=True)
    assert after.id != run.id
    fresh["config.json"] = fresh["config.json"].replace(run.id.encode(), after.id.encode())
    assert contents(run.path) == fresh


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_something_else_are_never_touched(create, tmp_path, overwrite):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="files that are not a run's"):
        create(tmp_path, overwrite)
    (tmp_path / "config.json").write_text('{"format": "another program"}')
    with pytest.raises(InputError, match="files that are not a run's"):
        create(tmp_path, overwrite)
    assert sorted(contents(tmp_path)) == ["config.json", "thesis.txt"]


@pytest.mark.parametrize("below", ["", "run", "run/deep"])
def test_a_file_in_the_way(create, tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write the run directory .*choose another --run"):
        create(tmp_path / "file" / below)
    assert contents(tmp_path) == {"file": b"in the way"}


@pytest.mark.parametrize("data", [None, b"", b"{", b"[]", b"{}", b'{"format": "x"}', b"\xff"])
def test_open_something_else(tmp_path, data):
    if data is not None:
        (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(InputError, match="is not a run directory: it has no config.json"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.pop("model"),
        lambda config: config.pop("training"),
        lambda config: config["data"].pop("sha256"),
        lambda config: config.update(data=[]),
        lambda config: config.update(tokenizer=["char"]),
        lambda config: config["tokenizer"].pop("sha256"),
        lambda config: config.update(model=[7]),
        lambda config: config["model"].update(num_layers=0),
        lambda config: config["model"].update(hidden_dim="70"),
        lambda config: config["model"].update(dropout="much"),
        lambda config: config["model"].pop("vocab_size"),
        lambda config: config["training"].update(from_the_future=1),
    ],
)
def test_open_damaged_config(run, change):
    path = run.path / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="config.json is damaged"):
        RunDirectory.open(run.path)


def test_tokenizer_of_another_size(run):
    Tokenizer.characters_of("abcdefghijklm").save(run.path / "tokenizer.json")
    with pytest.raises(InputError, match="has 14 tokens .* 13"):
        run.load_tokenizer()


@pytest.mark.parametrize("text", [None, "", "{}", "[1, 2"])
def test_damaged_tokenizer(run, text):
    path = run.path / "tokenizer.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match="expected a (Hugging Face )?tokenizer.json"):
        run.load_tokenizer()


def test_load_model_takes_the_best(run, make_model, tiny_config):
    best, last = make_model(tiny_config, seed=1), make_model(tiny_config, seed=2)
    with pytest.raises(InputError, match="no best.keras: copy it back, or train on, with"):
        run.load_model()
    last.compile("adamw", "sparse_categorical_crossentropy")
    run.save_last(last)
    run.save_best(best)
    for loaded, weight in zip(run.load_model().get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, weight)


def test_weights_are_read_where_they_stand(run, tiny_model, make_model, monkeypatch):
    """`zipfile` would read them from their beginning at each step back."""
    run.save_best(tiny_model)
    monkeypatch.delattr(zipfile.ZipExtFile, "seek")
    expected = tiny_model.get_weights()
    for got, array in zip(run.load_model().get_weights(), expected, strict=True):
        np.testing.assert_array_equal(got, array)


def test_a_checkpoint_without_weights(run, tiny_model):
    run.save_best(tiny_model)
    with zipfile.ZipFile(run.best) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(run.best, "w") as archive:
        for name, content in members.items():
            if name != "model.weights.h5":
                archive.writestr(name, content)
    for read in (run.read_best, run.load_model):
        with pytest.raises(InputError, match="is damaged .it has no model.weights.h5.: copy it"):
            read()


def test_the_best_has_no_optimizer_and_loads_in_float32(run, tiny_config):
    config = TrainingConfig(optimizer="adamw", mixed_precision="bfloat16", jit_compile=False)
    train_step = make_train_step(tiny_config, resolve(tiny_config, config))
    run.save_best(train_step.model)
    run.save_last(train_step)
    assert run.last.stat().st_size > 2.5 * run.best.stat().st_size
    loaded = run.load_model()
    assert {layer.compute_dtype for layer in loaded._flatten_layers()} == {"float32"}
    np.testing.assert_array_equal(loaded.get_weights()[1], train_step.get_weights()[1])


@pytest.mark.parametrize("keep", [0, 0.001, 0.5, 0.999])
def test_truncated_checkpoint(run, tiny_model, keep):
    run.save_best(tiny_model)
    data = run.best.read_bytes()
    run.best.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(InputError, match="best.keras is damaged") as caught:
        run.load_model()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_garbage_in_a_checkpoint(run, tiny_model, place):
    run.save_best(tiny_model)
    data = bytearray(run.best.read_bytes())
    begin = int(place * len(data))
    data[begin : begin + 997] = np.random.default_rng(5).bytes(997)
    run.best.write_bytes(data)
    with pytest.raises(InputError, match="best.keras is damaged"):
        run.load_model()


def test_checkpoint_of_another_model(run, make_model, classic_config):
    run.save_best(make_model(classic_config))
    with pytest.raises(InputError, match="of another model"):
        run.load_model()


def test_history_round_trip(run, tiny_model):
    columns = ("step", "train_seconds", "learning_rate", "train_loss", "val_loss")
    values = [(5, 0.5, 1e-3, 1 / 3, 0.1 + 0.2), (7, 0.7, 1e-5, 2.0, None)]
    rows = [dict(zip(columns, row)) for row in values]
    path = run.path / "history.csv"
    run.write_history(rows)
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(columns) and lines[2] == "7,0.7,1e-05,2.0,"
    run.save_last(tiny_model, rows)
    path.unlink()  # it is for people
    assert run.read_history() == rows


def test_complete_or_absent_replaces_a_file_or_a_directory(tmp_path):
    write_json(tmp_path / "file.json", {"a": 1})
    write_json(tmp_path / "file.json", {"b": [2, "é"]})
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    with atomic_write(tmp_path / "model") as partial:
        partial.mkdir()
        (partial / "new").write_text("new")
    assert json.loads((tmp_path / "file.json").read_text()) == {"b": [2, "é"]}
    assert contents(tmp_path).keys() == {"file.json", "model", "model/new"}


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    with pytest.raises(ZeroDivisionError), atomic_write(path) as partial:
        assert partial.suffix == ".json" and partial.parent == tmp_path
        partial.write_text("half")
        raise ZeroDivisionError
    assert contents(tmp_path) == {"file.json": b"old"}
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as partial:
        partial.mkdir()
        (partial / "half").write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"file.json": b"old"}


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="file.json.*No space left"):
        with atomic_write(tmp_path / "file.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
    assert contents(tmp_path) == {}
