"""The model runs on the JAX backend of Keras, too."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
from waits import HANG_SECONDS

ROOT = pathlib.Path(__file__).resolve().parent.parent

ON_JAX = """
import keras, numpy as np
from neo_keras import GPT, ModelConfig
assert keras.backend.backend() == "jax"
model = GPT(ModelConfig(13, max_seq_len=17, num_layers=3, num_heads=5, hidden_dim=70))
for weight in model.weights:
    mean = 1.0 if len(weight.shape) == 1 else 0.0
    weight.assign(np.random.default_rng(7).normal(mean, 0.2, weight.shape))
token_ids = np.random.default_rng(11).integers(13, size=(2, 18)).astype("int32")
inputs, cache, cached = token_ids[:, :-1], model.empty_cache(2), []
for begin, end in ((0, 7), (7, 8), (8, 17)):
    logits, cache = model.step(inputs[:, begin:end], np.arange(begin, end, dtype="int32"), cache)
    cached.append(np.array(logits))
full = np.array(model(inputs))
assert full.std() > 0.3
np.testing.assert_allclose(np.concatenate(cached, axis=1), full, rtol=0, atol=1e-4)
model.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
assert np.isfinite(model.fit(inputs, token_ids[:, 1:], verbose=0).history["loss"][0])
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX")
def test_runs_on_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ON_JAX]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, timeout=HANG_SECONDS)
