"""Starting and resuming a run, up to where training begins; no TensorFlow."""

import pytest

from neo_keras.errors import InputError
from neo_keras.training.run import RunDirectory
from neo_keras.training.setup import resume_run, start_run

SMALL = {"max_seq_len": 11, "num_layers": 2, "num_heads": 3, "hidden_dim": 30, "batch_size": 7}


@pytest.fixture
def place(tiny_corpus_text, tmp_path, monkeypatch):
    """A directory to work in, with texts/a.txt."""
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text(tiny_corpus_text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tokenizes_both_parts_of_the_text(place, tiny_corpus_text):
    run, corpus = start_run("run", ["texts/a.txt"], **SMALL)
    cut = len(tiny_corpus_text) * 9 // 10
    tokenizer = run.load_tokenizer()
    assert tokenizer.decode(corpus.training_ids) == tiny_corpus_text[:cut]
    assert tokenizer.decode(corpus.validation_ids) == tiny_corpus_text[cut:]
    assert corpus.tokens_per_char == 1.0
    assert run.load_validation_text() == tiny_corpus_text[cut:]


def test_epochs_become_steps(place, tiny_corpus_text):
    run, corpus = start_run("run", ["texts/a.txt"], epochs=2.5, **SMALL)
    num_windows = (len(corpus.training_ids) - 11) // 11
    assert run.training_config.steps == -(-5 * num_windows // 14)  # ceil(2.5 * windows / 7)


@pytest.mark.parametrize("epochs, warmup_steps", [(0.2, 1), (1, 7), (9, 10)])
def test_the_warmup_follows_the_epochs(place, epochs, warmup_steps):
    # 489 windows are 70 batches of 7
    run, _ = start_run("run", ["texts/a.txt"], epochs=epochs, **SMALL)
    assert run.training_config.warmup_steps == warmup_steps
    resumed, _ = resume_run("run", epochs=2 * epochs)
    assert resumed.training_config.steps > run.training_config.steps
    assert resumed.training_config.warmup_steps == warmup_steps  # what was is as it was


@pytest.mark.parametrize("length", [{"steps": 70}, {"epochs": 1}])
def test_a_warmup_as_long_as_the_training(place, length):
    with pytest.raises(InputError, match="warm-up must be shorter .* got 70 of 70 steps"):
        start_run("run", ["texts/a.txt"], warmup_steps=70, **length, **SMALL)
    assert not (place / "run").exists()
    start_run("run", ["texts/a.txt"], warmup_steps=69, **length, **SMALL)


def test_resumes_from_another_folder(place, monkeypatch):
    start_run("run", ["texts/*.txt"], **SMALL)
    monkeypatch.chdir("texts")
    _, corpus = resume_run("../run")
    assert len(corpus.training_ids) > 0


def test_resumes_with_a_text_that_moved_and_remembers_where(place):
    start_run("run", ["texts/a.txt"], **SMALL)
    (place / "texts" / "a.txt").rename(place / "b.txt")
    with pytest.raises(InputError, match=r"texts/a\.txt"):
        resume_run("run")
    run, _ = resume_run("run", ["b.txt"])
    run.save_config()
    assert RunDirectory.open("run").data["sources"] == [str(place / "b.txt")]


def test_a_resumed_run_keeps_what_would_change_it(place):
    start_run("run", ["texts/a.txt"], seed=5, **SMALL)
    resume_run("run", seed=5, hidden_dim=30)  # as it was: no change
    for name, value in {"seed": 6, "optimizer": "sgd", "schedule": "wsd", "ema": 0.9}.items():
        with pytest.raises(InputError, match=f"a resumed run keeps its {name}"):
            resume_run("run", **{name: value})
    run, _ = resume_run("run", steps=77, eval_every=13, patience=3)
    config = run.training_config
    assert (config.steps, config.eval_every, config.patience) == (77, 13, 3)


def test_a_time_limit_ends_with_the_session_that_asked_for_it(place):
    start_run("run", ["texts/a.txt"], max_seconds=3, **SMALL)
    assert resume_run("run")[0].training_config.max_seconds is None
    assert resume_run("run", max_seconds=5)[0].training_config.max_seconds == 5


def test_what_a_killed_process_left_is_no_obstacle(place):
    (place / "run").mkdir()
    (place / "run" / ".partial-1-config.json").write_text("{")
    start_run("run", ["texts/a.txt"], **SMALL)
    assert not list((place / "run").glob(".partial-*"))
