"""A file that is not what the model is never gets its name, and nothing is left of it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from neo_keras.atomic_files import atomic_write
from neo_keras.errors import InputError
from neo_keras.export import exporter, parity, saved_model, tflite
from neo_keras.export.quantization import QUANTIZATIONS
from neo_keras.generation.load import load_engine
from neo_keras.run_directory.directory import RunDirectory

pytest_plugins = ["export_fixtures"]


@pytest.fixture(scope="module")
def reference(small_run):
    validation_ids = small_run.load_tokenizer().encode(small_run.load_validation_text())
    return parity.make_reference(small_run.load_model(), validation_ids, 12)


def test_reference(small_run, reference):
    """Sixteen windows from the first to the last token, and a loss worked out by hand."""
    validation_ids = small_run.load_tokenizer().encode(small_run.load_validation_text())
    windows = np.concatenate([reference.prompts, reference.targets], axis=1)
    assert np.shape(reference.prompts) == (16, 8) and windows.shape == (16, 15)
    assert windows[0].tolist() == validation_ids[:15].tolist()
    assert windows[-1].tolist() == validation_ids[-15:].tolist()
    losses = []
    for target, row in zip(np.concatenate(reference.targets), reference.logits, strict=True):
        weights = np.exp(np.float64(row[:12]))
        losses.append(-np.log(weights[target] / weights.sum()))
    assert reference.loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_a_text_that_is_all_unknown(small_run):
    with pytest.raises(InputError, match="tokens that are known .* another --tokenizer"):
        parity.make_reference(small_run.load_model(), np.full(50, 12), 12)


NAN = float("nan")


@pytest.mark.parametrize(
    ("quantization", "difference", "loss_rise", "right"),
    [
        ("float32", 0.0009, 0, True),
        ("float32", 0.0011, 0, False),
        ("float32", NAN, 0, False),
        ("float32", 0, NAN, False),
        ("float32", 0, 0.009, True),
        ("float32", 0, 0.011, False),
        ("float16", 0.09, 0.009, True),
        ("float16", 0.09, 0.011, False),
        ("float16", 0.11, 0, False),
        ("int8", 5.0, -0.5, True),
        ("int8", 5.0, 0.07, False),
        ("int8", 0, float("inf"), False),
        ("int8", NAN, 0, False),
        ("int8-weights", 5.0, 0.019, True),
        ("int8-weights", 5.0, 0.07, False),
        ("int4", 5.0, 0.09, True),
        ("int4", 5.0, 0.11, False),
        ("int4-block32", 5.0, 0.09, True),
        ("int4-block32", 5.0, 0.11, False),
        ("int4-block32", 5.0, NAN, False),
    ],
)
def test_check(reference, quantization, difference, loss_rise, right):
    loss = reference.loss * (1 + loss_rise)
    measurement = parity.Measurement(difference, 1.0, loss, 1.0)
    if right:
        parity.check(measurement, reference, quantization, "file")
    else:
        with pytest.raises(parity.VerificationError, match="^file is wrong: .*nothing was written"):
            parity.check(measurement, reference, quantization, "file")


def test_a_file_that_computes_nan_is_refused(small_run, tmp_path, monkeypatch):
    write = tflite.write

    def write_damaged(source, *args):
        model = source.model
        damaged = type(model).from_config(model.get_config())
        damaged.set_weights(model.get_weights())
        damaged.final_norm.scale.assign(damaged.final_norm.scale * NAN)
        return write(dataclasses.replace(source, model=damaged), *args)

    monkeypatch.setattr(tflite, "write", write_damaged)
    with pytest.raises(parity.VerificationError, match="model-float32.tflite is wrong: .*nan"):
        exporter.export_run(small_run, ["tflite"], ["float32"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_off_is_refused(small_run, tmp_path, monkeypatch):
    exact = dataclasses.replace(QUANTIZATIONS["float32"], max_logit_difference=-1.0)
    monkeypatch.setitem(QUANTIZATIONS, "float32", exact)
    rows = []
    with pytest.raises(parity.VerificationError, match="saved_model is wrong"):
        exporter.export_run(small_run, ["saved_model"], out=tmp_path, on_row=rows.append)
    assert list(tmp_path.iterdir()) == []
    assert [row["file"] for row in rows] == ["(Keras)"]


@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_export_leaves_what_was_there(
    small_run, tmp_path, monkeypatch, error, earlier
):
    def write_half(source, path, *args):
        path.mkdir()
        (path / "saved_model.pb").write_text("half")
        raise error

    if earlier:
        (tmp_path / "saved_model").mkdir()
        (tmp_path / "saved_model" / "saved_model.pb").write_text("whole")
        (tmp_path / "saved_model" / "config.json").write_text('{"format": "neo_keras model 1"}')
        (tmp_path / "report.json").write_text("[]")
    before = {p.relative_to(tmp_path): p.is_dir() or p.read_text() for p in tmp_path.rglob("*")}
    monkeypatch.setattr(saved_model, "write", write_half)
    monkeypatch.setattr(parity, "measure", lambda *args: parity.Measurement(0.0, 1.0, 0.0, 1.0))
    with pytest.raises(type(error)):
        exporter.export_run(small_run, ["saved_model"], out=tmp_path)
    after = {p.relative_to(tmp_path): p.is_dir() or p.read_text() for p in tmp_path.rglob("*")}
    assert after == before


@pytest.mark.exhaustive
def test_export_over_an_export(small_run, tmp_path):
    run = RunDirectory.open(shutil.copytree(small_run.path, tmp_path / "run"))
    formats = (["saved_model", "tflite"], ["int8"])
    names = {"saved_model", "model-int8.tflite", "report.json", "README.md"}
    exporter.export_run(run, *formats)
    (run.export / "saved_model" / "stale").write_text("")
    model = run.load_model()
    model.final_norm.scale.assign(model.final_norm.scale * -1)  # every logit changes its sign
    run.save_best(model)

    def logits(name):
        engine, _ = load_engine(run.export / name)
        return np.array([engine.decode(token_id) for token_id in (1, 2, 3)])[:, :12]

    first = {name: logits(name) for name in ("saved_model", "model-int8.tflite")}
    rows = exporter.export_run(run, *formats)
    for name, earlier in first.items():
        np.testing.assert_allclose(logits(name), -earlier, atol=0.05)
        assert np.abs(earlier).max() > 0.5
    assert {path.name for path in run.export.iterdir()} == names
    assert not (run.export / "saved_model" / "stale").exists()
    assert json.loads((run.export / "report.json").read_text()) == rows


def test_complete_or_absent(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_write(path) as partial:
        assert (partial.parent, partial.suffix) == (tmp_path, ".txt")
        partial.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as partial:
        partial.write_text("two")
        raise ZeroDivisionError
    assert path.read_text() == "one"
    with atomic_write(path) as partial:
        partial.write_text("three")
    assert path.read_text() == "three"
    assert list(tmp_path.iterdir()) == [path]
