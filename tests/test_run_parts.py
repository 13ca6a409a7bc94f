"""A run of which a part is missing, damaged or of another run: one line, or it works."""

import json
import pathlib
import shutil
import signal
import zipfile

import keras
import pytest
from short_runs import different_arrays, stop_at, train_here

from neo_keras.atomic_files import write_json
from neo_keras.errors import FailedError, InputError
from neo_keras.generation.load import load_engine
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.training import train_drafter
from neo_keras.training.start import resume_run, start_run

SMALL = dict(
    num_layers=1, num_heads=1, hidden_dim=12, max_seq_len=7, max_ngram=1, num_speculative_tokens=2
)
SETTINGS = dict(steps=6, eval_every=2, steps_per_execution=1, mixed_precision="float32", **SMALL)


def train_all(path, text_file, **settings):
    """As train.py does it: with the drafter."""
    run, _ = train_here(path, text_file, **settings)
    if not run.read_best()["drafter_trained"]:
        assert train_drafter.train_drafter(run, resume_run(path)[1]) is None
    return run


@pytest.fixture(scope="module")
def place(corpus_file, tmp_path_factory):
    """a, a run that is complete, and b, one of the same shape, of a text in capitals."""
    place = tmp_path_factory.mktemp("cpu_replicas")
    capitals = place / "capitals.txt"
    capitals.write_text(corpus_file.read_text().swapcase())
    train_all(place / "a", corpus_file, **SETTINGS)
    train_all(place / "b", capitals, **SETTINGS)
    return place


@pytest.fixture
def copy(place, tmp_path):
    return pathlib.Path(shutil.copytree(place / "a", tmp_path / "run"))


def read_for_export(path):
    run = RunDirectory.open(path)
    run.read_metrics()
    run.load_tokenizer()
    run.load_model()
    run.load_validation_text()


def damage(path, how, place):
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        shutil.copy(place / "b" / path.name, path)


ACTIONS = {
    "resume": lambda path: resume_run(path, steps=9),
    "generate": load_engine,
    "export": read_for_export,
}
NO_RUN = ["is not a run directory"] * 3
NO_TOKENIZER = ["expected a (Hugging Face )?tokenizer.json"] * 3
OTHER = "are of different runs: put back the files of one"
FINE = [None] * 3
CASES = {
    ("config.json", "deleted"): NO_RUN,
    ("config.json", "truncated"): NO_RUN,
    ("config.json", "another's"): [OTHER, "tokenizer.json is not the one", OTHER],
    ("tokenizer.json", "deleted"): NO_TOKENIZER,
    ("tokenizer.json", "truncated"): NO_TOKENIZER,
    ("tokenizer.json", "another's"): ["tokenizer.json is not the one"] * 3,
    ("validation.txt", "deleted"): [None, None, "cannot read .*validation.txt"],
    ("validation.txt", "truncated"): [None, None, "validation.txt is not the one"],
    ("validation.txt", "another's"): [None, None, "validation.txt is not the one"],
    ("best.keras", "deleted"): [None, "has no best.keras: copy it", "has no best.keras: copy it"],
    ("best.keras", "truncated"): ["best.keras is damaged .*; last.keras is whole: remove best"] * 3,
    ("best.keras", "another's"): [OTHER] * 3,
    ("last.keras", "deleted"): ["has no last.keras: copy it back, or begin anew", None, None],
    ("last.keras", "truncated"): ["last.keras is damaged .*; best.keras is whole", None, None],
    ("last.keras", "another's"): [OTHER, None, None],
    ("history.csv", "deleted"): FINE,
    ("history.csv", "truncated"): FINE,
    ("history.csv", "another's"): FINE,
    ("metrics.json", "deleted"): FINE,
    ("metrics.json", "truncated"): FINE,
    ("metrics.json", "another's"): [OTHER, None, OTHER],
    ("loss.png", "deleted"): FINE,
}


@pytest.mark.parametrize("name, how", CASES)
def test_a_part(copy, place, name, how):
    damage(copy / name, how, place)
    for (action, act), message in zip(ACTIONS.items(), CASES[name, how], strict=True):
        if message is None:
            act(copy)
            continue
        with pytest.raises(InputError, match=message) as caught:
            act(copy)
        assert "\n" not in str(caught.value), action


def test_every_file_is_a_case(place):
    names = {path.name for path in (place / "a").iterdir() if path.is_file()}
    assert names - {".lock", ".export.lock"} == {name for name, _ in CASES}


@pytest.fixture
def losses_are(monkeypatch):
    def make(*losses):
        losses = iter(losses)
        monkeypatch.setattr(keras.Model, "evaluate", lambda *args, **kwargs: next(losses))

    return make


@pytest.mark.parametrize("missing", [[], ["history.csv", "metrics.json"]])
def test_a_better_best_is_never_replaced(corpus_file, tmp_path, losses_are, missing):
    losses_are(2.0, 1.0, 1.5, 1.2, 1.1)
    run, _ = train_here(tmp_path / "run", corpus_file, **SETTINGS)
    before = run.best.read_bytes()
    for name in missing:
        (run.path / name).unlink()
    run, metrics = train_here(run.path, corpus_file, resume=True, steps=10)
    assert run.best.read_bytes() == before
    assert (metrics["best_step"], metrics["best_val_loss"]) == (4, 1.0)
    losses = [row["val_loss"] for row in run.read_history()]
    assert losses == [2.0, 1.0, 1.5, 1.2, 1.1]
    assert len((run.path / "history.csv").read_text().splitlines()) == 6


def test_parts_that_are_made_anew(copy, place, corpus_file):
    for name in ("best.keras", "history.csv", "metrics.json", "loss.png"):
        (copy / name).unlink()
    run = train_all(copy, corpus_file, resume=True)
    assert different_arrays(run.best, place / "a" / "best.keras") == []  # the last was the best
    for name in ("history.csv", "loss.png"):
        assert (copy / name).read_bytes() == (place / "a" / name).read_bytes()
    with pytest.raises(InputError, match="is at step 6 already"):
        train_here(copy, corpus_file, resume=True)


def test_killed_before_the_first_checkpoint(place, corpus_file, tmp_path, capsys):
    path = tmp_path / "run"
    start_run(path, [str(corpus_file)], batch_size=3, jit_compile=False, sample_every=0, **SETTINGS)
    run = train_all(path, corpus_file, resume=True)
    assert "stopped before its first checkpoint: it begins at step 0" in capsys.readouterr().out
    for name in ("last.keras", "best.keras"):
        assert different_arrays(path / name, place / "a" / name) == []
    assert len(run.read_history()) == 3


def test_killed_while_the_drafter_learns(place, corpus_file, tmp_path, monkeypatch):
    path = tmp_path / "run"
    run, metrics = train_here(path, corpus_file, [stop_at(3)], stopped_by=2, **SETTINGS)
    run, metrics = train_here(path, corpus_file, resume=True)  # and no drafter
    untaught = run.best.read_bytes()
    _, again = train_here(path, corpus_file, resume=True)
    assert again["val_loss"] == metrics["val_loss"] and run.best.read_bytes() == untaught

    fit = train_drafter.fit_drafter
    press = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda *args, **kwargs: signal.raise_signal(signal.SIGINT)
    )
    with monkeypatch.context() as patch:
        patch.setattr(
            train_drafter, "fit_drafter", lambda *args: fit(*args[:-1], [press, *args[-1]])
        )
        assert train_drafter.train_drafter(run, resume_run(path)[1]) == 2
    assert run.best.read_bytes() != untaught and not run.read_best()["drafter_trained"]
    run = train_all(path, corpus_file, resume=True)
    assert different_arrays(run.best, place / "a" / "best.keras") == []
    with pytest.raises(InputError, match="is at step 6 already"):
        train_here(path, corpus_file, resume=True)


def test_a_run_from_before_there_were_ids(copy):
    """It generates and is exported; its last.keras is no `TrainStep`, and it is not resumed."""
    config = json.loads((copy / "config.json").read_text())
    for name in ("id", "validation_sha256", "asked"):
        del config[name]
    write_json(copy / "config.json", config)
    metrics = json.loads((copy / "metrics.json").read_text())
    write_json(copy / "metrics.json", {k: v for k, v in metrics.items() if k != "id"})
    for name in ("best.keras", "last.keras"):
        drop_record(copy / name)
    load_engine(copy)
    read_for_export(copy)
    with pytest.raises(InputError, match="last.keras is of an earlier version of neo_keras"):
        resume_run(copy, steps=8)


def drop_record(path):
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist() if n != "run.json"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_replaced_while_it_is_read(copy, place):
    run, other = RunDirectory.open(copy), RunDirectory.open(place / "b")
    text = other.load_validation_text()
    RunDirectory(copy).create(
        other.model_config, other.training_config, other.data, other.load_tokenizer(), text, True
    )
    shutil.copy(place / "b" / "metrics.json", copy)
    for read in (run.load_tokenizer, run.load_model, run.load_validation_text, run.read_metrics):
        with pytest.raises(InputError, match="was replaced while it was read: run this again"):
            read()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_directory_that_was_taken_over_is_not_mixed(copy, place, how):
    run = RunDirectory.open(copy)
    model = run.load_model()
    damage(copy / "config.json", {"replaced": "another's", "removed": "deleted"}[how], place)
    before = {path: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    for save in (run.save_best, run.save_last):
        with pytest.raises(FailedError, match="not this run's any more"):
            save(model)
    assert {path: path.read_bytes() for path in copy.iterdir() if path.is_file()} == before
