"""A SavedModel in a directory whose name is a pattern to TensorFlow, and is not UTF-8."""

import os
import shutil

from neo_keras.export.exporter import export_run
from neo_keras.generation.load import load_engine

pytest_plugins = ["export_fixtures"]


def test_exports_and_loads(tiny_run, tmp_path):
    odd, plain = tmp_path / os.fsdecode(b"br [x]* caf\xe9"), tmp_path / "plain"
    rows = export_run(tiny_run, ["saved_model"], out=odd)
    assert [row["file"] for row in rows] == ["(Keras)", "saved_model"]
    assert not (odd / "saved_model").is_symlink()
    shutil.copytree(odd / "saved_model", plain)
    logits = []
    for path in (odd / "saved_model", plain):
        engine, _ = load_engine(path)
        engine.prefill([1, 2, 3])
        logits.append(engine.decode(4).tolist())
    assert logits[0] == logits[1]
