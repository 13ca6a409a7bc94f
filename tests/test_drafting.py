"""Reading ahead: a drafter foresees tokens, and the text is the same as without it."""

import dataclasses
import itertools
import shutil
import signal
import types

import keras
import numpy as np
import pytest
from sure_texts import sure_ids
from tiny_models import SHAPE, corpus_text, make_run
from tolerances import assert_close

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.generation.decoding import generate_ids
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.load import tflite_engine
from neo_keras.generation.sampler import GREEDY, Sampler
from neo_keras.model.drafter import Drafter
from neo_keras.model.gpt import GPT
from neo_keras.presets import from_preset
from neo_keras.run_directory.directory import RunDirectory

NUM_DRAFTS = 3
UNK = 12
SAMPLERS = [
    GREEDY,
    Sampler(1.3, top_k=5),
    pytest.param(Sampler(0.8), marks=pytest.mark.exhaustive),
    pytest.param(Sampler(1.0, repetition_penalty=1.2), marks=pytest.mark.exhaustive),
]
to_numpy = keras.ops.convert_to_numpy


def test_drafter_by_hand(monkeypatch):
    monkeypatch.setattr("neo_keras.model.drafter.DRAFTER_WIDTH", 2)
    drafter = Drafter(vocab_size=3)
    drafter.build((None, None, 2))
    drafter.expand.kernel.assign([[1.0, 2.0], [0.5, -1.0]])
    drafter.embedding.embeddings.assign([[9.0, 9.0], [1.0, -1.0], [9.0, 9.0]])
    drafter.contract.kernel.assign([[1.0, -1.0], [10.0, 0.5]])
    # [1, 2] expands to [2, 0]; with token 1 it is [3, -1], and [3, 0] counts.
    x = drafter(np.array([[[1.0, 2.0]]]), np.array([[1]]))
    np.testing.assert_allclose(x, [[[1 + 3.0, 2 - 3.0]]])
    restored = Drafter.from_config(drafter.get_config())
    assert restored.vocab_size == 3


def test_verify_is_step_and_drafts():
    keras.utils.set_random_seed(3)
    model = GPT(ModelConfig(**SHAPE, num_speculative_tokens=NUM_DRAFTS))
    model.drafter.contract.kernel.assign(np.random.default_rng(1).normal(size=(256, 30)))
    rng = np.random.default_rng(2)
    before, token_ids = np.split(rng.integers(13, size=(1, 12)).astype("int32"), [7], axis=1)
    positions = np.arange(12, dtype="int32")
    noise = rng.normal(size=(5 + NUM_DRAFTS, 13)).astype("float32")
    _, cache = model.step(before, positions[:7], model.empty_cache())
    expected, _ = model.step(token_ids, positions[7:], cache)
    logits, drafts, _ = model.verify(token_ids, positions[7:], cache, noise)
    assert_close(logits, expected, additions=1_000)  # 30 + 12 + 30 + 30 + 120 in each of 3 blocks
    states, _ = model.hidden_step(token_ids, positions[7:], cache)
    for i in range(5):  # each row by itself
        x, token_id = to_numpy(states)[:, i : i + 1], to_numpy(expected)[0, i] + noise[i]
        token_id = token_id.argmax()
        for j in range(NUM_DRAFTS):
            x = model.drafter(x, np.array([[token_id]]))
            token_id = (to_numpy(model.logits(x))[0, 0] + noise[i + 1 + j]).argmax()
            assert int(drafts[0, i, j]) == token_id


@pytest.fixture(scope="module")
def untaught(tmp_path_factory):
    """A run whose drafter has learned nothing."""
    path = tmp_path_factory.mktemp("drafting") / "run"
    return make_run(path, num_layers=1, num_speculative_tokens=NUM_DRAFTS)


def copy_of(run, path):
    return RunDirectory.open(shutil.copytree(run.path, path))


@pytest.fixture(scope="module")
def run(untaught, tmp_path_factory):
    """A run whose drafter has learned."""
    from neo_keras.training.train_drafter import fit_drafter

    run = copy_of(untaught, tmp_path_factory.mktemp("drafting") / "run")
    model = run.load_model()
    before = [weight.numpy() for weight in model.trainable_variables]
    drafter = [weight.numpy() for weight in model.drafter.weights]
    fit_drafter(model, run.load_tokenizer().encode(corpus_text()), steps=150)
    for weight, value in zip(model.trainable_variables, before, strict=True):
        assert np.array_equal(weight.numpy(), value)  # the model is as it was
    assert not any(np.array_equal(w.numpy(), v) for w, v in zip(model.drafter.weights, drafter))
    run.save_best(model)
    return run


@pytest.fixture(scope="module")
def tflite(run, tmp_path_factory):
    from neo_keras.export.formats import Source
    from neo_keras.export.tflite import write_tflite

    path = tmp_path_factory.mktemp("drafting") / "model.tflite"
    write_tflite(Source(run.load_model(), run.load_tokenizer()), path, "float32")
    return path


def small_corpus(run):
    token_ids = run.load_tokenizer().encode(corpus_text())
    return types.SimpleNamespace(training=types.SimpleNamespace(token_ids=token_ids))


def test_what_diverges_is_not_kept(untaught, tmp_path, monkeypatch, capsys):
    from neo_keras.training import train_drafter

    run = copy_of(untaught, tmp_path / "run")
    before = run.best.read_bytes()
    monkeypatch.setattr(train_drafter, "LEARNING_RATE", 1e30)
    assert train_drafter.train_drafter(run, small_corpus(run)) is None
    assert run.best.read_bytes() == before
    assert "the drafter's training diverged" in capsys.readouterr().out


def test_ctrl_c_keeps_what_was_learned(untaught, tmp_path, monkeypatch):
    from neo_keras.training import train_drafter

    class PressCtrlC(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            calls.append(batch)
            signal.raise_signal(signal.SIGINT)

    calls, fit = [], train_drafter.fit_drafter
    monkeypatch.setattr(
        train_drafter, "fit_drafter", lambda *args: fit(*args[:-1], [PressCtrlC(), *args[-1]])
    )
    run = copy_of(untaught, tmp_path / "run")
    before = run.best.read_bytes()
    assert train_drafter.train_drafter(run, small_corpus(run)) == signal.SIGINT
    assert len(calls) == 1
    assert run.best.read_bytes() != before


def prompt_of(seed):
    return list(range(1, 4 + seed))


def write(engine, sampler, seed, count=160):
    """A text of more than one context."""
    ids = generate_ids(engine, prompt_of(seed), sampler, seed, suppress_tokens=[UNK])
    return list(itertools.islice(ids, count))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_same_text_with_drafts_and_without(run, tflite, sampler):
    model = run.load_model()
    plain, drafting = keras_engine(model), keras_engine(model, speculative=True)
    lite = tflite_engine(tflite, run.model_config)
    assert (plain.num_speculative_tokens, lite.num_speculative_tokens) == (0, NUM_DRAFTS)
    length = 0
    for seed in range(3):
        expected = sure_ids(plain, prompt_of(seed), 160, sampler, seed, [UNK])
        length += len(expected)
        for engine in (drafting, lite):
            assert write(engine, sampler, seed)[: len(expected)] == expected
    assert length > 240
    assert plain.num_accepted == 0


def test_the_drafter_has_learned(run):
    """Half of what comes next can be known from the word before; guessing has one in 12."""
    engine = keras_engine(run.load_model(), speculative=True)
    write(engine, Sampler(1.0), seed=1, count=90)
    assert engine.num_accepted > 30


def test_what_fit_trains_is_without_the_drafter(run):
    model = run.load_model()
    trained = {id(variable) for variable in model.trainable_variables}
    assert not trained & {id(variable) for variable in model.drafter.weights}
    assert model.count_params() == sum(np.prod(weight.shape) for weight in model.weights)


def test_presets_and_drafts():
    assert from_preset("shakespeare-cpu", 7)[0].num_speculative_tokens == 4
    assert from_preset("nanogpt-cpu", 7)[0].num_speculative_tokens == 0
    pairs, _ = from_preset("shakespeare-cpu", 7, architecture="encoder-decoder")
    assert pairs.num_speculative_tokens == 0
    for changes in (
        {"num_speculative_tokens": -1},
        {"num_speculative_tokens": 2, "architecture": "encoder-decoder"},
    ):
        with pytest.raises(InputError, match="num_speculative_tokens must be (at least 0|0 for)"):
            from_preset("shakespeare-cpu", 7, **changes)


@pytest.mark.exhaustive
def test_export_checks_what_drafts(run, tmp_path, monkeypatch):
    """A file whose longer step is wrong is refused, though its step of one token is right."""
    from neo_keras.export import exporter, parity

    original = GPT.verify

    def wrong(model, *args):
        logits, drafts, cache = original(model, *args)
        return logits + 1.0, drafts, cache

    monkeypatch.setattr(GPT, "verify", wrong)
    with pytest.raises(parity.VerificationError, match="its logits differ"):
        exporter.export_run(run, ["tflite"], ["float32"], tmp_path)
    assert not list(tmp_path.glob("*.tflite"))


@pytest.mark.exhaustive
def test_report_of_drafting(run, tmp_path):
    from neo_keras.export.exporter import export_run

    rows = export_run(run, ["tflite"], ["int8"], tmp_path)
    drafting = rows[-1]["drafting"]
    assert 1 < drafting["tokens_per_step"] <= 1 + NUM_DRAFTS
    assert drafting["tokens_per_second"] > 0
    assert "`verify_in_place`" in (tmp_path / "README.md").read_text()
    config = dataclasses.replace(run.model_config, num_speculative_tokens=0)
    with pytest.raises(InputError, match="must have the signatures"):
        tflite_engine(tmp_path / "model-int8.tflite", config)
