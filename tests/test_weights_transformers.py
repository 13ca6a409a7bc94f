"""Weights of each architecture, in and out, against Hugging Face's transformers."""

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="transformers needs PyTorch: pip install torch")
pytest.importorskip("transformers", reason="pip install transformers")

import foreign_models
import transformers
from safetensors.numpy import load_file
from tolerances import assert_close

from neo_keras.text.tokenizer import Tokenizer
from neo_keras.weights.conversion import as_target, target_of
from neo_keras.weights.huggingface import write_folder
from neo_keras.weights.open import open_pretrained

ADDITIONS = 3 * (60 + 60 + 41 + 60)  # of three blocks


def token_ids(seq_len=foreign_models.SEQ_LEN):
    rng = np.random.default_rng(3)
    return rng.integers(foreign_models.VOCAB_SIZE, size=(2, seq_len)).astype("int32")


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", foreign_models.MODELS)
def test_in_and_out(name, tmp_path, record_property):
    foreign = foreign_models.make(name)
    foreign_models.save(foreign, tmp_path / "in")
    pretrained = open_pretrained(tmp_path / "in")
    model, ids = pretrained.load_model(), token_ids()
    expected = foreign_models.logits_of(foreign, ids)
    got = np.asarray(model(ids))
    assert_close(got, expected, ADDITIONS)
    difference = np.abs(got - expected).max()
    record_property("summary", f"transformers {name}: logits differ by {difference:.1e}")

    written_as, target = target_of(model.config, "huggingface")
    tokenizer = Tokenizer(foreign_models.TOKENIZER)
    write_folder(tmp_path / "out", written_as, as_target(model, target), tokenizer)
    opened = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", attn_implementation="eager"
    )
    np.testing.assert_array_equal(foreign_models.logits_of(opened, ids), expected)
    assert written_as == name.split("-")[0]
    came, went = (load_file(tmp_path / way / "model.safetensors") for way in ("in", "out"))
    for tensor in came.keys() & went.keys():
        np.testing.assert_array_equal(went[tensor], came[tensor], tensor)
    assert went.keys() == came.keys()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == [type(foreign).__name__]
