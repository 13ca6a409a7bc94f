"""A tiny run whose model was really fitted, and its exports; made once for all test modules.

A test module asks for them with `pytest_plugins = ["export_fixtures"]`.
"""

import os

import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ALPHABET = "\n abcdefghij"  # 12 characters; with the unknown token a vocabulary of 13
# A different number on every axis, so that no two can be swapped unseen. The context is longer
# than a prefill chunk: the end of a long prompt is taken in token by token.
SHAPE = dict(vocab_size=13, max_seq_len=97, num_layers=3, num_heads=5, hidden_dim=30)


def corpus_text(num_characters=4000):
    """Words that follow one another by a rule: a tiny model learns it in a few steps."""
    rng = np.random.default_rng(7)
    words = ["abc ", "dcf ", "gg\n", "hij ", "ea ", "fade\n", "bi "]
    text, word = "", 0
    while len(text) < num_characters:
        text += words[word]
        word = (3 * word + 1 + rng.integers(2)) % len(words)
    return text[:num_characters]


def make_run(path, **changes):
    """Fits a model for a few steps, as `train.py` does, and saves it as `train.py` does."""
    from neo_keras.config import ModelConfig, TrainingConfig
    from neo_keras.text.tokenizer import Tokenizer
    from neo_keras.training.dataset import training_dataset
    from neo_keras.training.run import RunDirectory
    from neo_keras.training.trainer import make_compiled_model

    model_config = ModelConfig(**{**SHAPE, **changes})
    training_config = TrainingConfig(
        batch_size=4, steps=30, jit_compile=False, steps_per_execution=1, seed=11
    )
    text = corpus_text()
    tokenizer = Tokenizer.characters_of(ALPHABET)
    run = RunDirectory(path)
    data = {"sources": [], "sha256": ""}
    run.create(model_config, training_config, data, tokenizer, text[-700:])
    model = make_compiled_model(model_config, training_config)
    dataset = training_dataset(
        tokenizer.encode(text), model_config.max_seq_len, 4, seed=11, steps=training_config.steps
    )
    model.fit(dataset, shuffle=False, verbose=0)
    run.save_best(model)
    return run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """`RunDirectory` of a fitted model."""
    return make_run(tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture(scope="session")
def exports(tiny_run):
    """Rows of the report, of all formats in all quantizations; the files are in `export/`."""
    from neo_keras.export.exporter import export_run

    return export_run(tiny_run)
