"""A tiny run whose model was really fitted, and its exports; made once for all test modules.

A test module asks for them with `pytest_plugins = ["export_fixtures"]`.
"""

import pytest
from tiny_models import make_run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """`RunDirectory` of a fitted model."""
    return make_run(tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture(scope="session")
def exports(tiny_run):
    """Rows of the report, of all formats in all quantizations; the files are in `export/`."""
    from neo_keras.export.exporter import export_run
    from neo_keras.export.quantization import QUANTIZATIONS

    return export_run(tiny_run, quantizations=QUANTIZATIONS)


@pytest.fixture(scope="session")
def int8_tflite(tiny_run, tmp_path_factory):
    """Path of a `.tflite` of the same model."""
    from neo_keras.export.tflite import write_tflite

    path = tmp_path_factory.mktemp("int8") / "model-int8.tflite"
    write_tflite(tiny_run.load_model(), path, tiny_run.load_tokenizer(), "int8")
    return path
