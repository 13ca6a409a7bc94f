"""`export_model`: for a Keras user, who has a model and a tokenizer, and no run directory."""

import json
import os
import sys

import keras
import numpy as np
import pytest
from tiny_models import ALPHABET, SHAPE, corpus_text

from neo_keras import InputError, ModelConfig, Tokenizer, export_model, load_engine
from neo_keras.model.encoder_decoder import EncoderDecoder
from neo_keras.model.gpt import GPT

SMALL = {**SHAPE, "num_layers": 1, "max_seq_len": 14}
TOKENIZER = Tokenizer.characters_of(ALPHABET)


@pytest.fixture
def model():
    keras.utils.set_random_seed(1)
    return GPT(ModelConfig(**SMALL))


@pytest.mark.parametrize("text", [corpus_text(300), None])
def test_what_is_written_is_the_model(model, tmp_path, text):
    partial = [tmp_path / f".partial-{process}-saved_model" for process in ("old", "other")]
    for path in partial:
        path.mkdir()
    os.utime(partial[0], (0, 0))
    rows = export_model(model, TOKENIZER, tmp_path, ["saved_model"], validation_text=text)
    assert not partial[0].exists() and partial[1].exists()
    assert [row["file"] for row in rows] == ["(Keras)", "saved_model"]
    assert json.loads((tmp_path / "report.json").read_text()) == rows
    engine, tokenizer = load_engine(tmp_path / "saved_model")
    assert tokenizer.to_json() == TOKENIZER.to_json()
    token_ids = np.array([3, 5, 7, 11], "int32")
    engine.begin(token_ids)
    expected = np.array(model(token_ids[None]))[0, -1]
    np.testing.assert_allclose(engine.decode(11)[:12], expected[:12], atol=1e-5)
    card = (tmp_path / "README.md").read_text()
    assert ("text that the model itself sampled" in card) == (text is None)
    assert "python generate.py saved_model" in card and "{" not in card


def test_a_model_of_another_precision_is_exported_in_float32(tmp_path):
    model = GPT(ModelConfig(**SMALL), dtype="mixed_bfloat16")
    rows = export_model(model, TOKENIZER, tmp_path, ["saved_model"], about=["Trained on: letters."])
    assert "\n- Trained on: letters.\n" in (tmp_path / "README.md").read_text()
    assert rows[-1]["max_logit_difference"] < 1e-4
    assert model.compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formats": ["onnx"]}, "formats must be some of saved_model,tflite,.*, got onnx"),
        ({"formats": []}, "formats must be some of .*, got none"),
        ({"quantizations": ["int2"]}, "quantizations must be some of float32,.*, got int2"),
        ({"tokenizer": Tokenizer.characters_of("ab")}, "has 3 tokens but its model has 13"),
        ({"validation_text": "a"}, "at least 3 tokens to verify exports on, got 1"),
    ],
)
def test_refused_before_anything_is_written(model, tmp_path, arguments, message):
    arguments = {"tokenizer": TOKENIZER, "formats": ["saved_model"], **arguments}
    with pytest.raises(InputError, match=message):
        export_model(model, out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_what_is_not_installed_is_said_before_the_work(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_lm", None)
    monkeypatch.delitem(sys.modules, "neo_keras.export.litertlm", raising=False)
    with pytest.raises(InputError, match=r"write model-\*\.litertlm are missing .*--formats$"):
        export_model(model, TOKENIZER, tmp_path / "out", ["saved_model", "litertlm"])
    assert not (tmp_path / "out").exists()


def test_a_model_of_pairs_needs_pairs(tmp_path):
    tokenizer = TOKENIZER.with_end_token()
    config = {**SMALL, "vocab_size": 14, "architecture": "encoder-decoder", "end_token_id": 13}
    # 40 slots of 30 numbers: TensorFlow makes so many zeros by an operation of its own.
    model = EncoderDecoder(ModelConfig(**{**config, "max_seq_len": 40}))
    with pytest.raises(InputError, match="a model of pairs needs a validation_text"):
        export_model(model, tokenizer, tmp_path, ["saved_model"])
    pairs = "".join(
        json.dumps({"source": text, "target": text[::-1]}) + "\n" for text in ("abc", "dcf", "gg")
    )
    export_model(model, tokenizer, tmp_path, ["saved_model"], validation_text=pairs)
    assert load_engine(tmp_path / "saved_model")[0].end_token_id == 13
