"""The tokens of a large text are made once, kept in files, and mapped."""

import io
import multiprocessing
import os
import resource
import signal
import sys

import numpy as np
import pytest
import rich.console
from tiny_texts import whole
from waits import HANG_SECONDS

from neo_keras.errors import FailedError, InputError
from neo_keras.text import encoding
from neo_keras.text.corpus import open_corpus
from neo_keras.text.encoding import ConcatTokens, encode_text, read_tokens, token_files_directory
from neo_keras.text.tokenizer import make_tokenizer

pytest_plugins = ["shard_fixtures"]
pytestmark = pytest.mark.usefixtures("tiny_shards")


def test_windows_across_shards(tmp_path):
    rng = np.random.default_rng(5)
    expected = rng.integers(251, size=997).astype("uint8")
    stops = [0, 13, 14, 400, 411, 700, 997]
    for a, b in zip(stops, stops[1:]):
        encoding.write_tokens(tmp_path / f"{a}", expected[a:b], [0, 0, 0])
    joined = ConcatTokens([read_tokens(tmp_path / f"{a}", "uint8")[0] for a in stops[:-1]])
    assert (len(joined), joined.dtype) == (997, "uint8")
    for start in range(997):
        window = joined[start : start + 31]
        assert window.dtype == "uint8"
        np.testing.assert_array_equal(window, expected[start : start + 31])
    for span in (slice(None), slice(-40, -3), slice(14, 14), slice(997, 999), slice(500, 2000)):
        np.testing.assert_array_equal(joined[span], expected[span])
    with pytest.raises(ValueError, match="without a step, got a step of 2"):
        joined[::2]


def test_a_second_start_encodes_nothing(texts, encoded_shards):
    tokenizer = make_tokenizer("bpe", [whole(texts)], 300)
    first = encode_text(tokenizer, open_corpus([str(texts)]).text)
    assert "".join(encoded_shards) == whole(texts)
    encoded_shards.clear()
    second = encode_text(tokenizer, open_corpus([str(texts)]).text)
    assert encoded_shards == []
    np.testing.assert_array_equal(second.token_ids[:], first.token_ids[:])
    # Another tokenizer has files of its own.
    other = make_tokenizer("bpe", [whole(texts)], 301)
    encode_text(other, open_corpus([str(texts)]).text)
    assert "".join(encoded_shards).endswith(whole(texts))


def test_a_changed_character_is_encoded_with_its_shard_only(texts, encoded_shards):
    tokenizer = make_tokenizer("byte", [])
    encode_text(tokenizer, open_corpus([str(texts)]).text)
    before = [text for text in encoded_shards if len(text) >= 100]
    data = (texts / "a").read_bytes()
    place = data.index(b"reading", 1500)
    (texts / "a").write_bytes(data[:place] + b"R" + data[place + 1 :])
    encoded_shards.clear()
    encoded = encode_text(tokenizer, open_corpus([str(texts)]).text)
    changed = [text for text in encoded_shards if len(text) >= 100]
    assert any("Reading" in text for text in changed)
    assert len(changed) <= 4 < len(before) / 5  # the next cuts may have moved
    assert bytes(encoded.token_ids[:]).decode() == whole(texts)


def test_a_new_file_leaves_the_shards_of_the_others(texts, encoded_shards):
    tokenizer = make_tokenizer("byte", [])
    encode_text(tokenizer, open_corpus([str(texts)]).training)
    count = len(encoded_shards)
    (texts / "b").write_text("a new one\n" * 30)
    encoded_shards.clear()
    training = open_corpus([str(texts)]).training
    encoded = encode_text(tokenizer, training)
    assert any("a new one" in text for text in encoded_shards)
    assert len(encoded_shards) < count / 3
    assert bytes(encoded.token_ids[:]).decode() == "".join(training)


def kill_at(number, sources):
    """Encodes a text in a process that is killed amid a shard; a target of `multiprocessing`."""
    encode, count = encoding._encode, 0

    def die(*arguments):
        nonlocal count
        count += 1
        if count == number:
            partial = token_files_directory() / f".partial-{os.getpid()}-shard"
            partial.write_text("half a shard")
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(*arguments)

    encoding._encode = die
    encode_text(make_tokenizer("byte", []), open_corpus(sources).text)


def test_killed_and_started_again(texts, encoded_shards):
    process = multiprocessing.get_context("fork").Process(target=kill_at, args=(7, [str(texts)]))
    process.start()
    process.join(HANG_SECONDS)
    assert process.exitcode == -signal.SIGKILL
    tokenizer, text = make_tokenizer("byte", []), open_corpus([str(texts)]).text
    encoded = encode_text(tokenizer, text)
    assert bytes(encoded.token_ids[:]).decode() == whole(texts)
    shards = ["".join(shard) for _, shard in encoding._cut_into_shards(tokenizer, text)]
    assert encoded_shards == shards[6:]
    # What the killed process left goes when it is surely no one's.
    (partial,) = token_files_directory().glob(".partial-*")
    os.utime(partial, (0, 0))
    encode_text(make_tokenizer("char", "ab"), open_corpus([str(texts)]).text)
    assert not partial.exists()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_shows_how_far_it_is(texts, is_terminal, monkeypatch):
    console = rich.console.Console(file=io.StringIO(), force_terminal=is_terminal)
    monkeypatch.setattr(rich, "get_console", lambda: console)
    monkeypatch.setattr(encoding, "MIN_PROGRESS_BYTES", 10_000)
    encode_text(make_tokenizer("byte", []), open_corpus([str(texts)]).text)
    for what in ("reading the text", "encoding the text", "100%", "0:00:00"):
        assert (what in console.file.getvalue()) == is_terminal


def test_two_processes_at_once(texts):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=kill_at, args=(None, [str(texts)])) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANG_SECONDS)
        assert process.exitcode == 0
    encoded = encode_text(make_tokenizer("byte", []), open_corpus([str(texts)]).text)
    assert bytes(encoded.token_ids[:]).decode() == whole(texts)
    assert not list(token_files_directory().glob(".partial-*"))


def damages(path):
    data = path.read_bytes()
    return {
        "empty": b"",
        "the header only": data[:56],
        "half a header": data[:28],
        "one token less": data[:-1],
        "one token more": data + b"x",
        "another format": data.replace(b"neo_keras", b"any_keras"),
        "no header": b"\xff" * len(data),
    }


@pytest.mark.parametrize("damage", [
    "empty", "the header only", "half a header", "one token less", "one token more",
    "another format", "no header",
])  # fmt: skip
def test_a_damaged_file_is_made_anew(texts, damage, encoded_shards):
    tokenizer = make_tokenizer("byte", [])
    encode_text(tokenizer, open_corpus([str(texts)]).text)
    path = sorted(token_files_directory().glob("*.tokens"))[3]
    intact = path.read_bytes()
    path.write_bytes(damages(path)[damage])
    with pytest.raises(ValueError):
        read_tokens(path, "uint8")
    encoded_shards.clear()
    encoded = encode_text(tokenizer, open_corpus([str(texts)]).text)
    assert len([text for text in encoded_shards if len(text) >= 100]) == 1
    assert bytes(encoded.token_ids[:]).decode() == whole(texts)
    assert path.read_bytes() == intact


def test_files_may_be_deleted_while_they_are_read(texts):
    encoded = encode_text(make_tokenizer("byte", []), open_corpus([str(texts)]).text)
    for path in token_files_directory().iterdir():
        path.unlink()
    assert bytes(encoded.token_ids[:]).decode() == whole(texts)


def test_the_text_changes_while_it_is_encoded(texts):
    corpus = open_corpus([str(texts)])
    data = (texts / "c").read_bytes()
    (texts / "c").write_bytes(data.replace(b"the", b"The"))
    with pytest.raises(InputError, match="changed while it was read: start again"):
        encode_text(make_tokenizer("byte", []), corpus.text)
    (texts / "c").write_bytes(data)
    encoded = encode_text(make_tokenizer("byte", []), open_corpus([str(texts)]).text)
    assert bytes(encoded.token_ids[:]).decode() == whole(texts)


def test_no_room(texts):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))
    try:
        with pytest.raises(FailedError, match="cannot write .* .File too large.*make room"):
            encode_text(make_tokenizer("byte", []), open_corpus([str(texts)]).text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for path in token_files_directory().iterdir():
        read_tokens(path, "uint8")  # complete


def test_no_directory(texts, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(FailedError, match="cannot write .*/cache/.* XDG_CACHE_HOME to another"):
        encode_text(make_tokenizer("byte", []), open_corpus([str(texts)]).text)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_what_was_read_does_not_stay_in_memory(tmp_path):
    path = tmp_path / "tokens"
    encoding.write_tokens(path, np.ones(2**26, "uint8"), [0, 0, 0])
    token_ids = ConcatTokens([read_tokens(path, "uint8")[0]])
    for place in range(0, 2**26, 2**12):  # every page
        assert token_ids[place : place + 2].all()
        if place % 2**22 == 0:
            smaps = open("/proc/self/smaps").read()
            resident = smaps.split(str(path))[1].split("Rss:")[1].split()[0]
            assert int(resident) < 2**16 / 2  # kB


@pytest.mark.exhaustive
def test_training_and_resuming_from_tiny_shards(texts, tmp_path, monkeypatch):
    """The same weights, to the last bit, as of tokens in memory."""
    from short_runs import different_arrays, stop_at, train_here

    settings = dict(tokenizer="byte", steps=13, eval_every=5, steps_per_execution=1, max_ngram=1)
    sharded, _ = train_here(tmp_path / "sharded", texts, **settings)
    assert len(list(token_files_directory().iterdir())) > 10
    resumed, _ = train_here(tmp_path / "resumed", texts, [stop_at(7)], stopped_by=2, **settings)
    train_here(resumed.path, texts, resume=True)
    monkeypatch.setattr(encoding, "MIN_SHARD_BYTES", 2**24)
    monkeypatch.setattr(encoding, "MAX_SHARD_BYTES", 2**25)
    monkeypatch.setattr(encoding, "MIN_KEPT_CHARS", 2**23)
    in_memory, _ = train_here(tmp_path / "memory", texts, **settings)
    assert different_arrays(sharded.last, in_memory.last) == []
    assert different_arrays(sharded.last, resumed.last) == []
