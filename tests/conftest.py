"""What several test modules share. Every axis of the tiny models has a size of its own."""

import os
import signal

# As a script's own process has them, whose weights some tests compare with those of this one.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import filelock
import keras
import numpy as np
import pytest

from neo_keras.config import ModelConfig

# Where `&` in a script or `nohup` starts the tests, these signals would be ignored by all of them.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # not on Windows
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """The same random weights in every run, whatever ran before: of fixtures of any scope, too."""
    keras.utils.set_random_seed(41)


def pytest_terminal_summary(terminalreporter):
    """Shows what tests recorded as `summary`: what was run, and what it gave."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(value)


@pytest.fixture(autouse=True, scope="session")
def cache_home(tmp_path_factory):
    """Nothing is kept beside what the user of this machine has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes files that take long to make: once for all processes of the tests.

    A function of a name, and of a function that writes the path which has it last of all.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def make_once(name, make):
        path = root / "once" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / "once" / f"{name.replace('/', '-')}.lock"):
            if not path.exists():
                make(path)
        return path

    return make_once


SONNET_LINES = """\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date:
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance, or nature's changing course, untrimm'd;
But thy eternal summer shall not fade,
Nor lose possession of that fair thou ow'st;
Nor shall Death brag thou wander'st in his shade.
""".splitlines(keepends=True)  # 11 lines: a prime, so that the text below does not repeat soon


@pytest.fixture(scope="session")
def tiny_corpus_text():
    """6,000 characters of a sonnet, its lines in a shuffled order."""
    order = np.random.default_rng(18).integers(len(SONNET_LINES), size=200)
    return "".join(SONNET_LINES[i] for i in order)[:6000]


@pytest.fixture(scope="session")
def corpus_file(tiny_corpus_text, tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "sonnet.txt"
    path.write_text(tiny_corpus_text)
    return path


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory):
    """90 strings of up to 8 letters, and each backwards."""
    rng, path = np.random.default_rng(3), tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    words = ["".join(rng.choice(list("abcdefg"), rng.integers(1, 9))) for _ in range(90)]
    path.write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    return path


@pytest.fixture(scope="module")
def small_cuts(tmp_path_factory):
    """As if all limits of a text's chunks and shards were a thousand times as small."""
    from neo_keras.text import chunks, encoding

    limits = [(chunks, "MIN_CHUNK_CHARS", 4), (chunks, "MAX_CHUNK_CHARS", 8),
              (encoding, "MIN_SHARD_BYTES", 60), (encoding, "PARTS_PER_CUT", 1),
              (encoding, "MIN_KEPT_CHARS", 70)]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for limit in limits:
            patch.setattr(*limit)
        yield


@pytest.fixture(scope="session")
def tiny_config():
    """A modern model; head_dim 14."""
    return ModelConfig(vocab_size=13, max_seq_len=17, num_layers=2, num_heads=5, hidden_dim=70)


@pytest.fixture(scope="session")
def classic_config():
    """The same in GPT-2's recipe, all of it; head_dim 7."""
    return ModelConfig(
        vocab_size=13,
        max_seq_len=17,
        num_layers=2,
        num_heads=5,
        hidden_dim=35,
        position="learned",
        norm="layer",
        activation="gelu_tanh",
        use_bias=True,
        qk_norm=False,
        tie_embeddings=True,
    )


@pytest.fixture
def make_model():
    """Makes a `GPT` whose every weight matters, biases and scales too."""

    def make(config, seed=7, **kwargs):
        from neo_keras.model.gpt import GPT

        model = GPT(config, **kwargs)
        randomize(model, seed)
        return model

    return make


@pytest.fixture
def tiny_model(tiny_config, make_model):
    return make_model(tiny_config)


def randomize(layer, seed):
    """Fills a layer with weights large enough for attention not to be uniform."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        mean = 1.0 if weight.path.endswith(("scale", "gamma")) else 0.0
        weight.assign(rng.normal(mean, 0.3 if len(weight.shape) == 1 else 0.2, weight.shape))
