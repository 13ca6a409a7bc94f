"""Texts in tiny shards.

A test module asks for them with `pytest_plugins = ["shard_fixtures"]`.
"""

import pytest
from tiny_texts import CHUNK_BYTES, words

from neo_keras.text import encoding, formats


@pytest.fixture
def tiny_shards(tmp_path, monkeypatch):
    """As if everything were a million times as large, and with an empty cache."""
    monkeypatch.setattr(formats, "CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(encoding, "MIN_SHARD_BYTES", 200)
    monkeypatch.setattr(encoding, "MAX_SHARD_BYTES", 700)
    monkeypatch.setattr(encoding, "MIN_KEPT_CHARS", 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def texts(tmp_path):
    """A folder of three files; one begins with a byte order mark, one does not end its line."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in {"a": words(1) + "end", "c": "\ufeff" + words(2), "d": words(3)}.items():
        (folder / name).write_bytes(text.encode())
    return folder


@pytest.fixture
def encoded_shards(monkeypatch):
    """The texts that are encoded, in order."""
    seen, encode = [], encoding._encode

    def record(tokenizer, texts, *before):
        seen.append("".join(texts))
        return encode(tokenizer, texts, *before)

    monkeypatch.setattr(encoding, "_encode", record)
    return seen
