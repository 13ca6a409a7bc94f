"""Runs that train adapters: what is kept, how they go on, and what is refused."""

import json
import shutil

import keras
import numpy as np
import pytest
import tiny_llama
from lora_runs import tune_here
from short_runs import different_arrays, read_checkpoint, stop_at

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.lora_config import LoraConfig
from neo_keras.model.lora import adapters
from neo_keras.presets import LORA_LEARNING_RATE, for_pretrained, from_preset
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.weights.open import open_pretrained

CONFIG = ModelConfig(13, **tiny_llama.SHAPE)
pytest_plugins = ["lora_fixtures"]

IDS = np.random.default_rng(3).integers(13, size=(5, 19)).astype("int32")


def test_it_begins_where_the_base_is(base, text_file, tmp_path, tuned, capsys):
    run, _ = tune_here(tmp_path / "run", base, text_file, steps=1, learning_rate=1e-9)
    loss = run.read_history()[-1]["val_loss"]
    assert f"before training: validation {loss:.4f}" in capsys.readouterr().out
    plain, model = open_pretrained(base).load_model(), run.load_model()
    np.testing.assert_allclose(np.asarray(model(IDS)), np.asarray(plain(IDS)), rtol=0, atol=1e-6)
    assert tuned.read_best()["val_loss"] < loss - 0.01


@pytest.mark.parametrize("step", np.random.default_rng(29).choice(np.arange(1, 11), 1))
def test_a_stopped_run_resumes_to_the_same_bits(base, text_file, tmp_path, tuned, step):
    run, stopped_by = tune_here(tmp_path / "run", base, text_file, [stop_at(step)])
    assert stopped_by and run.read_history()[-1]["step"] == step
    run, stopped_by = tune_here(run.path, base, text_file, resume=True)
    assert not stopped_by
    assert different_arrays(run.last, tuned.last) == []
    assert different_arrays(run.best, tuned.best) == []
    names = read_checkpoint(run.last)
    assert any("_lora" in name for name in names) and any("optimizer" in name for name in names)


ALL_WEIGHTS = pytest.param({"lora_rank": None}, marks=pytest.mark.exhaustive)


@pytest.mark.parametrize("lora", [{}, ALL_WEIGHTS])
def test_killed_before_its_first_checkpoint(base, text_file, tmp_path, lora):
    """It begins anew, from the base."""

    class Killed(Exception):
        pass

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise Killed

    with pytest.raises(Killed):
        tune_here(tmp_path / "run", base, text_file, [Kill()], steps=5, **lora)
    killed = RunDirectory.open(tmp_path / "run")
    assert killed.best.exists() and not killed.last.exists()
    run, _ = tune_here(killed.path, base, text_file, resume=True)
    undisturbed, _ = tune_here(tmp_path / "other", base, text_file, steps=5, **lora)
    assert different_arrays(run.last, undisturbed.last) == []
    losses = [[row["val_loss"] for row in r.read_history()] for r in (run, undisturbed)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_checkpoints_hold_adapters_only(tuned):
    num_weights = LoraConfig(3).num_weights(tuned.model_config)
    for path, copies in ((tuned.best, 1), (tuned.last, 3)):  # with two moments
        numbers = sum(array.size for array in read_checkpoint(path).values())
        # Beside them only what the dropout layers and the optimizer count.
        assert copies * num_weights <= numbers <= copies * num_weights + 30


def test_what_is_opened_is_plain_and_merged(tuned, base):
    """`load_model` gives the base's weights and scale * A B of the file."""
    model, plain = tuned.load_model(), open_pretrained(base).load_model()
    assert not list(adapters(model))
    arrays = {
        name.split("/vars/")[1]: array
        for name, array in read_checkpoint(tuned.best).items()
        if "transformer_block_1/feed_forward/contract_lora" in name
    }
    delta = 6 / 3 * (arrays["0"] @ arrays["1"]).T
    expected = np.asarray(plain.blocks[1].feed_forward.contract_kernel) + delta
    got = np.asarray(model.blocks[1].feed_forward.contract_kernel)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(
        np.asarray(model.token_embedding.embeddings), np.asarray(plain.token_embedding.embeddings)
    )


@pytest.fixture
def moved(tuned, base, tmp_path):
    """A run whose base is a copy of its own."""
    copy, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(base, copy)
    shutil.copytree(tuned.path, run)
    config = json.loads((run / "config.json").read_text())
    config["base"]["path"] = str(copy)
    (run / "config.json").write_text(json.dumps(config))
    return RunDirectory.open(run), copy


def test_a_base_that_is_gone_or_changed(moved):
    run, base = moved
    run.load_model()
    weights = base / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    expected = f"{base} is not what the adapters of {run.path} were trained on: expected weights of"
    with pytest.raises(InputError, match=rf"{expected} SHA-256 \w+, got \w+; put those back there"):
        run.load_model()
    weights.write_bytes(content)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(InputError, match=expected):
        run.load_model()
    shutil.rmtree(base)
    reason = f"{run.path} holds adapters only, .* cannot be read: {base} does not exist"
    with pytest.raises(InputError, match=reason):
        run.load_model()
    with pytest.raises(InputError, match=reason):
        tune_here(run.path, None, None, resume=True, steps=15)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"lora_rank": 0}, "lora_rank must be at least 1, got 0"),
        ({"lora_rank": 13}, "lora_rank must be at most 12, .* matrix of qkv, got 13"),
        ({"optimizer": "muon"}, "muon is for whole matrices, .* leave out --optimizer"),
        ({"lora_alpha": 0.0}, "lora_alpha must be above 0"),
        ({"num_speculative_tokens": 2}, "--num-speculative-tokens does not go with --lora"),
        ({"lora_rank": None, "lora_alpha": 2.0}, "--lora-alpha is for adapters: give --lora RANK"),
        ({"lora_rank": None, "lora_targets": "all"}, "--lora-targets is for adapters"),
    ],
)
def test_mistakes(base, text_file, tmp_path, changes, reason):
    with pytest.raises(InputError, match=reason):
        tune_here(tmp_path / "run", base, text_file, **changes)
    assert not (tmp_path / "run").exists()


def test_without_weights_of_others():
    with pytest.raises(
        InputError, match="--lora adds to weights that are there: give them with --"
    ):
        from_preset("shakespeare-cpu", 13, lora_rank=3)


def test_the_learning_rate_of_adapters():
    assert for_pretrained(CONFIG, lora_rank=3)[1].learning_rate == LORA_LEARNING_RATE
    assert for_pretrained(CONFIG, lora_rank=3, learning_rate=0.1)[1].learning_rate == 0.1
    assert for_pretrained(CONFIG)[1].learning_rate != LORA_LEARNING_RATE


def test_a_resumed_run_keeps_its_adapters(tuned):
    with pytest.raises(InputError, match="a resumed run keeps its lora_rank"):
        tune_here(tuned.path, None, None, resume=True, lora_rank=4)
