"""`keras.models.load_model` opens a run's best.keras, as README says."""

import importlib
import sys

import keras
import numpy as np
import pytest
from tiny_models import SHAPE

from neo_keras.config import ModelConfig
from neo_keras.model.encoder_decoder import model_class

KINDS = ("decoder-only", "encoder-decoder")
NAMES = ("neo_keras>GPT", "neo_keras>EncoderDecoder")


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """(model, path of its file)."""
    path = tmp_path_factory.mktemp("saved") / "best.keras"
    n_grams = {} if request.param == KINDS[0] else {"max_ngram": 1}
    config = ModelConfig(**{**SHAPE, "num_layers": 1, **n_grams}, architecture=request.param)
    model = model_class(config)(config)
    model.save(path)
    return model, path


@pytest.fixture
def as_in_a_new_process(monkeypatch):
    """Neither the package nor its models have been imported; Keras has."""
    registered = keras.saving.get_custom_objects()
    kept = dict(registered)  # a second import registers other classes of the same names
    for name in NAMES:
        del registered[name]
    for name in [name for name in sys.modules if name.partition(".")[0] == "neo_keras"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    registered.clear()
    registered.update(kept)


def test_it_needs_our_classes(saved, as_in_a_new_process):
    with pytest.raises(TypeError, match="Could not locate class"):
        keras.models.load_model(saved[1])


def assert_opens(saved):
    model, path = saved
    opened = keras.models.load_model(path)  # in safe mode, which executes nothing
    assert type(opened).__name__ == type(model).__name__
    for weight, expected in zip(opened.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_after_keras_the_package_is_enough(saved, as_in_a_new_process):
    importlib.import_module("neo_keras")
    assert_opens(saved)


def test_as_readme_says(saved, as_in_a_new_process, monkeypatch):
    package = sys.modules.pop("keras")  # `import neo_keras` comes first
    module = importlib.import_module("neo_keras")
    assert "neo_keras.model" not in sys.modules
    sys.modules["keras"] = package
    assert module.GPT.__name__ == "GPT"  # one of the two registers both
    assert_opens(saved)
