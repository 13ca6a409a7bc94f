"""Several small batches make the very step of a large one."""

import numpy as np
import pytest
from short_runs import assert_resumes, losses_and_weights, train_here

NGRAMS = dict(max_ngram=3, ngram_rows=53, ngram_dim=6)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "muon", **NGRAMS},
        {"optimizer": "adamw", "ema": 0.9, **NGRAMS},
        {"optimizer": "adam", "tie_embeddings": True, "position": "learned", "lookahead": 0},
        {"optimizer": "sgd", **NGRAMS},
        {"optimizer": "muon", "jit_compile": True, **NGRAMS},
    ],
    ids=lambda settings: settings["optimizer"] + " XLA" * settings.get("jit_compile", False),
)
def test_as_the_large_batch(corpus_file, tmp_path, settings):
    """Losses of every step, and weights; gradients are clipped at every step."""
    settings = {"clip_norm": 0.1, **settings}
    losses, weights = losses_and_weights(tmp_path / "a", corpus_file, batch_size=32, **settings)
    assert losses[-1] < losses[0] - 0.05
    small = {"batch_size": 8, "accumulate": 4, **settings}
    other_losses, other_weights = losses_and_weights(tmp_path / "b", corpus_file, **small)
    assert_as_close_as_rounding(other_losses, losses, other_weights, weights)


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_pairs_whose_weights_are_of_the_whole_batch(pairs_file, tmp_path, tie_embeddings):
    settings = {"optimizer": "sgd", "architecture": "encoder-decoder", "max_seq_len": 11,
                "tie_embeddings": tie_embeddings, "clip_norm": 0.1, **NGRAMS}  # fmt: skip
    losses, weights = losses_and_weights(tmp_path / "a", pairs_file, batch_size=14, **settings)
    small = {"batch_size": 2, "accumulate": 7, **settings}
    other_losses, other_weights = losses_and_weights(tmp_path / "b", pairs_file, **small)
    assert_as_close_as_rounding(other_losses, losses, other_weights, weights)


def assert_as_close_as_rounding(losses, expected_losses, weights, expected_weights):
    np.testing.assert_allclose(losses, expected_losses, atol=1e-6, rtol=0)
    for ours, theirs in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)


def test_resumed_as_if_never_stopped(corpus_file, tmp_path):
    """Bit for bit, with dropout, which draws for every small batch."""
    settings = dict(accumulate=3, dropout=0.1, mixed_precision="float32")
    assert_resumes(tmp_path, corpus_file, **settings)


def test_an_epoch_is_as_many_windows(corpus_file, tmp_path):
    """5,400 tokens to train on are 317 windows of 17, one of them spare: 11 steps of 5 x 6."""
    run, metrics = train_here(tmp_path / "run", corpus_file, epochs=1, batch_size=5, accumulate=6)
    assert metrics["step"] == run.training_config.steps == 11
