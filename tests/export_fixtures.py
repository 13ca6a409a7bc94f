"""A tiny run whose model was really fitted, and its exports; made once for all processes.

A test module asks for them with `pytest_plugins = ["export_fixtures"]`.
"""

import json

import pytest
from tiny_models import make_run

from neo_keras.run_directory.directory import RunDirectory


@pytest.fixture(scope="session")
def tiny_run(once):
    """`RunDirectory` of a fitted model."""
    best = once("tiny_run/best.keras", lambda best: make_run(best.parent))
    return RunDirectory.open(best.parent)


@pytest.fixture(scope="session")
def small_run(once):
    """The same of a smaller model, which is exported in half the time."""
    settings = dict(steps=5, num_layers=1, max_seq_len=14)
    best = once("small_run/best.keras", lambda best: make_run(best.parent, **settings))
    return RunDirectory.open(best.parent)


@pytest.fixture(scope="session")
def exports(once, tiny_run):
    """Rows of the report, of all formats in all quantizations; the files are in `export/`."""

    def export(card):
        from neo_keras.export.exporter import export_run
        from neo_keras.export.quantization import QUANTIZATIONS

        export_run(tiny_run, quantizations=QUANTIZATIONS)

    card = once("tiny_run/export/README.md", export)
    return json.loads((card.parent / "report.json").read_text())


@pytest.fixture(scope="session")
def int8_tflite(once, tiny_run):
    """Path of a `.tflite` of the same model."""

    def write(path):
        from neo_keras.export.formats import Source
        from neo_keras.export.tflite import write_tflite

        write_tflite(Source(tiny_run.load_model(), tiny_run.load_tokenizer()), path, "int8")

    return once("int8/model-int8.tflite", write)


@pytest.fixture(scope="session")
def page_tflite(once, tiny_run):
    """Path of the web page's model, in float32."""

    def write(path):
        from neo_keras.export.formats import Source
        from neo_keras.export.signatures import page_signatures
        from neo_keras.export.tflite import write_tflite

        source = Source(tiny_run.load_model(), tiny_run.load_tokenizer())
        write_tflite(source, path, "float32", page_signatures)

    return once("page/model.tflite", write)
