"""Starting and resuming a run, up to where training begins; no TensorFlow."""

import hashlib
import json

import pytest

from neo_keras.errors import InputError
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.tokenizer import make_tokenizer
from neo_keras.text.tokenizer_models import KINDS
from neo_keras.training.resolve import resolve
from neo_keras.training.start import resume_run, start_run

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
    assert tokenizer.decode(corpus.training.token_ids) == tiny_corpus_text[:cut]
    assert tokenizer.decode(corpus.validation.token_ids) == tiny_corpus_text[cut:]
    assert corpus.validation.tokens_per_char == 1.0
    assert run.load_validation_text() == tiny_corpus_text[cut:]


def test_epochs_become_steps(place, tiny_corpus_text):
    run, corpus = start_run("run", ["texts/a.txt"], epochs=2.5, **SMALL)
    num_windows = (len(corpus.training.token_ids) - 11) // 11
    assert run.training_config.steps == -(-5 * num_windows // 14)  # ceil(2.5 * windows / 7)


@pytest.mark.parametrize("epochs, warmup_steps", [(0.2, 1), (1, 7), (9, 10)])
def test_the_warmup_follows_the_epochs(place, epochs, warmup_steps):
    # 489 windows are 70 batches of 7
    run, corpus = start_run("run", ["texts/a.txt"], epochs=epochs, **SMALL)
    run.training_config = resolve(run.model_config, run.training_config, corpus)  # as `train` does
    run.save_config()
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
    assert len(corpus.training.token_ids) > 0


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


@pytest.fixture
def late_words(place):
    """texts/late.txt: its last tenth, and only that, has the word "zebra"."""
    text = "the cat sat\n" * 90 + "the zebra!\n\n" * 10
    (place / "texts" / "late.txt").write_text(text)
    return text


@pytest.mark.parametrize("name", KINDS)
def test_a_tokenizer_is_trained_on_the_training_text_only(late_words, name):
    run, corpus = start_run("run", ["texts/late.txt"], tokenizer=name, **SMALL)
    tokenizer = run.load_tokenizer()
    assert tokenizer.kind == name
    assert tokenizer.decode(corpus.training.token_ids) == late_words[:1080]
    expected = make_tokenizer(name, [late_words[:1080]])
    assert tokenizer.to_json() == expected.to_json()
    assert run.model_config.vocab_size == expected.vocab_size
    unknown = {"char": ["!", "b", "r", "z"], "word": ["!", "zebra"]}.get(name, [])
    assert tokenizer.unknown_in(late_words[1080:]) == unknown
    assert corpus.validation.num_unknown == 10 * len(unknown)
    if not unknown:
        assert tokenizer.decode(corpus.validation.token_ids) == late_words[1080:]


def test_vocab_size(place):
    run, _ = start_run("run", ["texts/a.txt"], tokenizer="bpe", vocab_size=283, **SMALL)
    assert run.model_config.vocab_size == run.load_tokenizer().vocab_size == 283


def test_a_tokenizer_of_ones_own(place, tiny_corpus_text):
    tokenizer = make_tokenizer("bpe", [tiny_corpus_text], 300)
    tokenizer.save(place / "my.json")
    run, corpus = start_run("run", ["texts/a.txt"], tokenizer="my.json", **SMALL)
    assert run.load_tokenizer().to_json() == tokenizer.to_json()
    resume_run("run", tokenizer="my.json")
    make_tokenizer("bpe", [tiny_corpus_text], 301).save(place / "my.json")
    with pytest.raises(InputError, match=r"a resumed run keeps its tokenizer \(bpe\)"):
        resume_run("run", tokenizer="my.json")


def test_a_resumed_run_keeps_its_tokenizer(place):
    _, before = start_run("run", ["texts/a.txt"], tokenizer="bpe", vocab_size=283, **SMALL)
    _, after = resume_run("run", tokenizer="bpe", vocab_size=283)
    assert after.training.token_ids.tolist() == before.training.token_ids.tolist()
    with pytest.raises(InputError, match=r"keeps its tokenizer \(bpe\): leave it out"):
        resume_run("run", tokenizer="word")
    with pytest.raises(InputError, match=r"keeps its vocab_size \(283\)"):
        resume_run("run", vocab_size=284)


def test_the_run_says_which_tokenizer_it_has(place):
    run, _ = start_run("run", ["texts/a.txt"], tokenizer="word", **SMALL)
    recorded = json.loads((run.path / "config.json").read_text())["tokenizer"]
    digest = hashlib.sha256((run.path / "tokenizer.json").read_bytes()).hexdigest()
    assert recorded == {"kind": "word", "sha256": digest}
    RunDirectory.open("run").save_config()  # as resuming does
    assert json.loads((run.path / "config.json").read_text())["tokenizer"] == recorded


def test_another_tokenizer_of_the_same_size(place, tiny_corpus_text):
    run, _ = start_run("run", ["texts/a.txt"], **SMALL)
    other = tiny_corpus_text.translate(str.maketrans("ab", "@#"))
    make_tokenizer("char", [other]).save(run.path / "tokenizer.json")
    with pytest.raises(
        InputError, match="tokenizer.json is not the one that the model was trained"
    ):
        resume_run("run")


def test_a_run_from_before_tokenizers_were_recorded(place):
    run, _ = start_run("run", ["texts/a.txt"], **SMALL)
    config = json.loads((run.path / "config.json").read_text())
    del config["tokenizer"]
    (run.path / "config.json").write_text(json.dumps(config))
    assert resume_run("run")[0].load_tokenizer().kind == "char"


def test_nothing_is_written_where_the_tokenizer_cannot_be(place):
    before = sorted(place.rglob("*"))
    for settings in ({"tokenizer": "bpe", "vocab_size": 200}, {"vocab_size": 100}):
        with pytest.raises(InputError, match="vocab_size"):
            start_run("run", ["texts/a.txt"], **settings, **SMALL)
    assert sorted(place.rglob("*")) == before
