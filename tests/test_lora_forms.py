"""Adapters on several devices, and on the JAX backend of Keras."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from tolerances import assert_same_training
from waits import HANG_SECONDS

pytest_plugins = ["lora_fixtures"]
pytestmark = pytest.mark.exhaustive
TESTS = pathlib.Path(__file__).resolve().parent

ON_JAX = """
import keras, numpy as np
from neo_keras import GPT, ModelConfig
from neo_keras.lora_config import LoraConfig
from neo_keras.model.lora import add_lora, merge_lora
assert keras.backend.backend() == "jax"
config = ModelConfig(13, max_seq_len=17, num_layers=3, num_heads=5, hidden_dim=70)
model = GPT(config)
token_ids = np.random.default_rng(11).integers(13, size=(2, 18)).astype("int32")
inputs = token_ids[:, :-1]
before = np.array(model(inputs))
frozen = [np.array(weight) for weight in model.weights]
add_lora(model, LoraConfig(2))
np.testing.assert_array_equal(np.array(model(inputs)), before)
optimizer = keras.optimizers.AdamW(1e-2)
model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
losses = model.fit(inputs, token_ids[:, 1:], epochs=5, verbose=0).history["loss"]
assert losses[-1] < losses[0] - 0.01, losses
trained = {id(weight) for weight in model.trainable_weights}
after = [weight for weight in model.weights if id(weight) not in trained]
assert len(after) == len(frozen)
for weight, value in zip(after, frozen):
    np.testing.assert_array_equal(np.array(weight), value)
logits = np.array(model(inputs))
assert np.abs(logits - before).max() > 1e-2
np.testing.assert_allclose(np.array(merge_lora(model)(inputs)), logits, rtol=0, atol=1e-5)
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_on_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ON_JAX]
    subprocess.run(command, check=True, cwd=TESTS.parent, env=environment, timeout=HANG_SECONDS)


def test_two_devices_train_as_one(base, text_file, tmp_path):
    """Losses of every step and all weights; and the run of two resumes and is opened."""
    settings = dict(
        data=[str(text_file)], pretrained=str(base), lora_rank=3, max_seq_len=None, steps=20,
        eval_every=7, sample_every=0, batch_size=4, learning_rate=1e-2, vocab_size=None, dropout=0,
        mixed_precision="float32", document_mask="auto", steps_per_execution=1, patience=0,
    )  # fmt: skip
    kept = []
    for name, strategy, devices in (("one", None, 1), ("two", "mirrored", 2)):
        arguments = json.dumps({**settings, "run": name, "strategy": strategy})
        command = [sys.executable, TESTS / "worker.py", arguments, "--devices", str(devices)]
        subprocess.run(
            [*command, "--keep", f"{name}.npz"], check=True, cwd=tmp_path, timeout=HANG_SECONDS
        )
        kept.append(list(np.load(tmp_path / f"{name}.npz").values()))
    (losses, *weights), (other_losses, *other_weights) = kept
    assert len(losses) == 20 and losses[-1] < losses[0] - 0.1
    assert_same_training(other_losses, losses, other_weights, weights)
    from neo_keras.run_directory.directory import RunDirectory

    two = RunDirectory.open(tmp_path / "two")
    logits = [
        np.asarray(RunDirectory.open(tmp_path / name).load_model()(np.arange(19)[None]))
        for name in ("one", "two")
    ]
    np.testing.assert_allclose(*logits, rtol=0, atol=1e-4)
    arguments = json.dumps(
        {
            "run": "two",
            "resume": True,
            "steps": 24,
            "data": [],
            "strategy": "mirrored",
            "vocab_size": None,
            "document_mask": "auto",
        }
    )
    command = [sys.executable, TESTS / "worker.py", arguments, "--devices", "2"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=HANG_SECONDS)
    assert two.read_history()[-1]["step"] == 24
