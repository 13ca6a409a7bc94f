"""Adapters that several devices or processes train are those that one device trains."""

import json

import numpy as np
import pytest
from test_distribution import SETTINGS, start, start_workers, succeed
from tolerances import assert_same_training

pytest_plugins = ["lora_fixtures"]
SHAPE = ("num_layers", "num_heads", "hidden_dim", "max_seq_len", "max_ngram", "ngram_rows",
         "ngram_dim", "num_speculative_tokens")  # fmt: skip


@pytest.mark.exhaustive
def test_as_one_device(base, text_file, tmp_path):
    settings = {
        **SETTINGS, **dict.fromkeys(SHAPE), "data": [str(text_file)], "pretrained": str(base),
        "lora_rank": 3, "learning_rate": 1e-2, "steps": 20, "vocab_size": None,
    }  # fmt: skip
    runs = {"one": {"strategy": None}, "mirrored": {"strategy": "mirrored"}}
    for name, strategy in runs.items():
        devices = 1 + (name == "mirrored")
        further = ("--devices", devices, "--keep", f"{name}.npz")
        succeed([start(tmp_path, {**settings, **strategy, "run": name}, *further)])
    kept = ["0", "1"]
    options = [("--keep", f"{name}.npz") for name in kept]
    succeed(start_workers(tmp_path, {**settings, "run": "workers"}, options))
    losses, *weights = np.load(tmp_path / "one.npz").values()
    assert len(losses) == 20 and losses[-1] < losses[0] - 0.3
    for name in ("mirrored", *kept):
        other_losses, *other_weights = np.load(tmp_path / f"{name}.npz").values()
        assert_same_training(other_losses, losses, other_weights, weights)
    metrics = [
        json.loads((tmp_path / name / "metrics.json").read_text())["val_loss"]
        for name in ("one", "mirrored", "workers")
    ]
    assert metrics == pytest.approx([metrics[0]] * len(metrics), abs=5e-5)
