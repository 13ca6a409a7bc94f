"""Which files a name stands for, and what is read once only."""

import gzip
import json
import os
import sys
import threading

import pytest

from neo_keras.errors import FailedError, InputError
from neo_keras.run_directory.directory import FORMAT
from neo_keras.text import sources
from neo_keras.text.corpus import load_corpus, open_corpus
from neo_keras.text.pairs import are_pairs, load_pairs
from neo_keras.text.sources import find_files, saved_sources, sources_to_save


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory to work in, and a function that puts files there, each holding its own name."""
    monkeypatch.chdir(tmp_path)

    def put(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name}\n")

    return put


@pytest.mark.parametrize("name", ["a[1].txt", "a*.txt", "a?.txt", "**", "[", "b[1]/x.txt"])
def test_a_name_that_exists_is_no_pattern(place, name):
    place("a1.txt", "aa.txt", "b1/x.txt", name)
    assert find_files([name]) == [name]
    assert find_files(sources_to_save([name])) == [os.path.abspath(name)]


@pytest.mark.parametrize("folder", ["br [x]", "b*", "[ab]", "?"])
def test_a_part_that_exists_is_no_pattern(place, monkeypatch, folder):
    place(f"{folder}/1.txt", f"{folder}/c/2.txt", "br x/3.txt", "a/4.txt", "bb/5.txt")
    assert find_files([f"{folder}/*.txt"]) == [f"{folder}/1.txt"]
    monkeypatch.chdir(folder)
    names = sources_to_save(["**/*.txt"])
    monkeypatch.chdir("/")
    assert [os.path.basename(path) for path in find_files(names)] == ["1.txt", "2.txt"]


def test_natural_order(place):
    place("2.txt", "10.txt", "1.txt", "c10/1", "c9/2", "c9/10", "c9/02")
    assert find_files(["."]) == [
        f"./{name}" for name in ("1.txt", "2.txt", "10.txt", "c9/02", "c9/2", "c9/10", "c10/1")
    ]
    assert find_files(["*.txt"]) == ["1.txt", "2.txt", "10.txt"]


def test_links_are_followed_but_not_in_circles(place, tmp_path):
    place("texts/a.txt", "elsewhere/b.txt", "elsewhere/deep/c.txt")
    (tmp_path / "texts" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "texts")
    (tmp_path / "elsewhere" / "self").symlink_to(".")
    (tmp_path / "elsewhere" / "nowhere").symlink_to("no such file")
    (tmp_path / "elsewhere" / "circle").symlink_to("circle")
    expected = ["texts/a.txt", "texts/link/b.txt", "texts/link/deep/c.txt"]
    for source in ("texts", "texts/**", "texts/**/*.txt"):
        assert find_files([source]) == expected
    (tmp_path / "only").symlink_to("texts")
    assert len(find_files(["only"])) == 3
    assert find_files(["texts", "only/a.txt", "elsewhere"]) == expected


def test_run_directories_are_no_text(place, tmp_path):
    place("a.txt", "runs/mine/best.keras", "runs/mine/samples.txt", "runs/mine/logs/events")
    config = json.dumps({"format": FORMAT, "model": {}}, indent=2)
    (tmp_path / "runs" / "mine" / "config.json").write_text(config)
    place("other/config.json")
    for source in (".", "**", "*", "*/**", "r*/*/*"):
        if source == "r*/*/*":
            with pytest.raises(InputError, match="no file .but hidden ones, or a run's"):
                find_files([source])
        else:
            found = [os.path.normpath(path) for path in find_files([source])]
            assert set(found) <= {"a.txt", "other/config.json"}
    assert find_files(["runs/mine/samples.txt"]) == ["runs/mine/samples.txt"]  # it is meant


@pytest.mark.parametrize("source", ["texts", "texts/*", "texts/**", "texts/a.txt"])
def test_a_folder_without_permission(place, monkeypatch, source):
    place("texts/a.txt")

    def refuse(path):
        if str(path).startswith("texts"):
            raise PermissionError(13, "Permission denied", path)
        return stat(path)

    stat = os.stat
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(InputError, match="Permission denied at texts.*; change its permissions"):
        find_files([source])


def test_devices_and_sockets_are_no_files(place, tmp_path):
    for source in ("/dev/null", "/dev/zero"):
        with pytest.raises(InputError, match=f"got '{source}', where there is no file"):
            find_files([source])


def test_a_pipe_is_read_once_and_kept(place, tmp_path):
    os.mkfifo("pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"a\r\ntext\r",))
    writer.start()
    corpus = open_corpus(["pipe"])
    writer.join()
    assert ["".join(corpus.text) for _ in range(2)] == ["a\ntext\n"] * 2
    names = sources_to_save(["a.txt", "pipe"])
    assert names == [str(tmp_path / "a.txt"), "-"]
    with pytest.raises(InputError, match="came through a pipe, .* again with --data"):
        saved_sources(names)


@pytest.fixture
def stdin(monkeypatch, tmp_path):
    """Makes bytes what comes through stdin."""

    def give(data):
        (tmp_path / "given").write_bytes(data)
        monkeypatch.setattr(sys, "stdin", open(tmp_path / "given"))

    return give


@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_stdin(place, stdin, source):
    place("a.txt")
    stdin(gzip.compress(b"from stdin\n"))
    assert load_corpus(["a.txt", source]) == "a.txt\nfrom stdin\n"
    assert sources_to_save([source]) == ["-"]
    stdin(b"\xff")
    with pytest.raises(InputError, match="text in .*/stdin, got a file that is binary"):
        load_corpus([source])


def test_no_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="expected a text on stdin, got none"):
        load_corpus(["-"])


def test_no_room_for_what_comes_through_a_pipe(stdin, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    stdin(b"text")
    monkeypatch.setattr(sources.shutil, "copyfileobj", fail)
    with pytest.raises(FailedError, match="keep what comes through - in .*No space left"):
        load_corpus(["-"])


@pytest.mark.parametrize("name", ["A.TSV", "texts/a.tsv", "b.Jsonl", "c.ndjson", "d.tsv.gz"])
def test_pairs_are_never_plain_text(place, name):
    place("a.txt", name)
    for source in (name, os.path.dirname(name) or "[A-Zb-d]*"):
        assert are_pairs(find_files([source]))
        with pytest.raises(InputError, match="expected a (column 'text'|JSON object|whole gzip)"):
            load_corpus([source])
    with pytest.raises(InputError, match="a.txt: give one kind only"):
        are_pairs(find_files([name, "a.txt"]))


def test_json_is_text_but_not_silently(place):
    place("a.txt", "b.JSON")
    with pytest.warns(UserWarning, match=r"b\.JSON is read as plain text"):
        assert load_corpus(["*.*"]) == "a.txt\nb.JSON\n"


def test_pairs_reached_twice_are_read_once(place, tmp_path):
    (tmp_path / "a[1].tsv").write_text("you\tthou\n")
    (tmp_path / "a1.tsv").write_text("he\the\n")
    assert load_pairs(find_files(["a[1].tsv"])) == [("you", "thou")]
    twice = find_files(["a1.tsv", "*.tsv", "."])
    assert load_pairs(twice) == [("he", "he"), ("you", "thou")]


def test_names_that_are_not_utf8(place):
    name = os.fsdecode(b"caf\xe9.txt")
    with open(name, "w") as file:
        file.write("text\n")
    assert load_corpus(["*.txt"]) == load_corpus([name]) == "text\n"
    kept = json.loads(json.dumps(sources_to_save([name])))
    assert load_corpus(kept) == "text\n"


def test_a_file_that_vanishes(place, tmp_path):
    place("a.txt", "b.txt")
    corpus = open_corpus(["*.txt"])
    (tmp_path / "b.txt").unlink()
    with pytest.raises(
        OSError, match=r"No such file or directory: 'b\.txt'"
    ):  # one line, by a script
        "".join(corpus.text)
