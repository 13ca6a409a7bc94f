"""Micro-batches and CPU replicas make the very step of the whole batch."""

import pytest
from short_runs import assert_resumes, losses_and_weights, train_here
from tolerances import assert_same_training

EXHAUSTIVE = pytest.mark.exhaustive
NGRAMS = dict(max_ngram=3, ngram_rows=53, ngram_dim=6)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "muon", **NGRAMS},
        pytest.param({"optimizer": "adamw", "ema": 0.9, **NGRAMS}, marks=EXHAUSTIVE),
        {
            "optimizer": "adam",
            "tie_embeddings": True,
            "position": "learned",
            "num_future_tokens": 0,
        },
        pytest.param({"optimizer": "sgd", **NGRAMS}, marks=EXHAUSTIVE),
        pytest.param({"optimizer": "muon", "jit_compile": True, **NGRAMS}, marks=EXHAUSTIVE),
    ],
    ids=["muon", "adamw", "adam", "sgd", "muon XLA"],
)
def test_as_the_large_batch(corpus_file, tmp_path, settings):
    """Losses of every step, and weights; gradients are clipped at every step."""
    settings = {"clip_norm": 0.1, **settings}
    losses, weights = losses_and_weights(tmp_path / "a", corpus_file, batch_size=32, **settings)
    assert losses[-1] < losses[0] - 0.05
    small = {"batch_size": 8, "gradient_accumulation_steps": 4, **settings}
    other_losses, other_weights = losses_and_weights(tmp_path / "b", corpus_file, **small)
    assert_same_training(other_losses, losses, other_weights, weights)


@pytest.mark.exhaustive
@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_pairs_whose_weights_are_of_the_whole_batch(pairs_file, tmp_path, tie_embeddings):
    settings = {"optimizer": "sgd", "architecture": "encoder-decoder", "max_seq_len": 11,
                "tie_embeddings": tie_embeddings, "clip_norm": 0.1, **NGRAMS}  # fmt: skip
    losses, weights = losses_and_weights(tmp_path / "a", pairs_file, batch_size=14, **settings)
    small = {"batch_size": 2, "gradient_accumulation_steps": 7, **settings}
    other_losses, other_weights = losses_and_weights(tmp_path / "b", pairs_file, **small)
    assert_same_training(other_losses, losses, other_weights, weights)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"cpu_replicas": 2, "optimizer": "muon"}, marks=EXHAUSTIVE),
        pytest.param(
            {"cpu_replicas": 8, "optimizer": "adamw", "ema": 0.9, "jit_compile": True},
            marks=EXHAUSTIVE,
        ),
        {
            "cpu_replicas": 2,
            "batch_size": 8,
            "gradient_accumulation_steps": 4,
            "optimizer": "adamw",
            "remat": True,
        },
    ],
    ids=["muon", "XLA", "one after another, too"],
)
def test_side_by_side(corpus_file, tmp_path, settings):
    settings = {"batch_size": 32, "clip_norm": 0.1, **NGRAMS, **settings}
    losses, weights = losses_and_weights(tmp_path / "a", corpus_file, **settings)
    whole = {
        "cpu_replicas": 1,
        "batch_size": 32,
        "gradient_accumulation_steps": 1,
        "remat": False,
        "jit_compile": False,
    }
    expected = losses_and_weights(tmp_path / "b", corpus_file, **{**settings, **whole})
    assert_same_training(losses, expected[0], weights, expected[1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("jit_compile", [False, True], ids=["TensorFlow", "XLA"])
def test_parts_draw_dropout_as_if_one_after_another(corpus_file, tmp_path, jit_compile):
    settings = dict(optimizer="sgd", dropout=0.3, jit_compile=jit_compile)
    parts, slices = (
        dict(batch_size=6, cpu_replicas=3),
        dict(batch_size=2, gradient_accumulation_steps=3),
    )
    losses, weights = losses_and_weights(tmp_path / "a", corpus_file, **parts, **settings)
    expected = losses_and_weights(tmp_path / "b", corpus_file, **slices, **settings)
    assert_same_training(losses, expected[0], weights, expected[1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("data", ["corpus_file", "pairs_file"])
def test_validation_in_parts(request, data, tmp_path):
    """35 windows, or 9 pairs, 8 at a time: fewer are left in the end than there are parts."""
    settings = dict(steps=3, batch_size=4, dropout=0.1, mixed_precision="float32", **NGRAMS)
    settings["architecture"] = "decoder-only" if data == "corpus_file" else "encoder-decoder"
    data = request.getfixturevalue(data)
    _, metrics = train_here(tmp_path / "cpu_replicas", data, cpu_replicas=4, **settings)
    run, _ = train_here(
        tmp_path / "whole", data, gradient_accumulation_steps=4, **{**settings, "batch_size": 1}
    )
    assert metrics["val_loss"] == pytest.approx(run.read_history()[-1]["val_loss"], rel=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "slices",
    [
        {"gradient_accumulation_steps": 3},
        {"cpu_replicas": 3},
        {"cpu_replicas": 3, "jit_compile": True},
    ],
    ids=["one after another", "side by side", "side by side, XLA"],
)
def test_resumed_as_if_never_stopped(corpus_file, tmp_path, slices):
    """Bit for bit, with dropout, which draws for every slice."""
    settings = dict(dropout=0.1, mixed_precision="float32", ngram_dropout=0.1, **NGRAMS, **slices)
    assert_resumes(tmp_path, corpus_file, **settings)


def test_an_epoch_is_as_many_windows(corpus_file, tmp_path):
    """5,400 tokens to train on are 317 windows of 17, one of them spare: 11 steps of 5 x 6."""
    run, metrics = train_here(
        tmp_path / "run", corpus_file, epochs=1, batch_size=5, gradient_accumulation_steps=6
    )
    assert metrics["step"] == run.training_config.steps == 11
