"""Damaged `.tflite` files: one clear line, whatever is damaged, and never a crash."""

import dataclasses
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from waits import HANG_SECONDS

from neo_keras.errors import InputError
from neo_keras.generation import artifact
from neo_keras.generation.load import load_engine, tflite_engine

pytest_plugins = ["export_fixtures"]

# Another process, so that a crash is a failed test and not the end of the tests.
LOAD_ALL = """
import sys, itertools, pathlib
from neo_keras.errors import InputError
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine, tflite_engine
from neo_keras.generation.sampler import GREEDY
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        engine, tokenizer = load_engine(path)
        print("loaded", "".join(generate_text(engine, tokenizer, "a", 2, GREEDY)).encode())
    except InputError as error:
        print("refused", repr(str(error)))
"""


def damaged(content, rng):
    """One of many ways in which a file can come out wrong of a download or a disk."""
    content = bytearray(content)
    size = len(content)
    begin, length = rng.integers(size), int(rng.integers(1, 200))
    tail = max(size - int(rng.integers(1, 3000)), 0)  # configuration, tokenizer and zip directory
    match rng.integers(6):
        case 0:  # truncated
            del content[begin:]
        case 1:  # a bit
            content[begin] ^= 1 << rng.integers(8)
        case 2:  # a stretch of noise
            content[begin : begin + length] = rng.bytes(length)
        case 3:  # noise where the packed texts are
            content[tail : tail + length] = rng.bytes(min(length, size - tail))
        case 4:  # bytes lost
            del content[begin : begin + length]
        case 5:  # bytes lost or doubled in the packed texts
            content[tail:tail] = content[tail : tail + length]
    return bytes(content)


@pytest.mark.parametrize("num_files", [50, pytest.param(500, marks=pytest.mark.exhaustive)])
def test_damaged_files(int8_tflite, tmp_path, num_files):
    original = int8_tflite.read_bytes()
    rng = np.random.default_rng(41)
    for i in range(num_files):
        (tmp_path / f"{i:03}.tflite").write_bytes(damaged(original, rng))
    command = [sys.executable, "-c", LOAD_ALL, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == num_files
    refused = [line for line in lines if line.startswith("refused")]
    assert len(refused) > 0.8 * num_files  # a few hit bytes that mean nothing, such as a zip's date
    assert all("\\n" not in line for line in refused)
    # What loads is the model as it was.
    assert len(set(lines) - set(refused)) <= 1


def test_a_config_that_is_not_the_files(int8_tflite, tmp_path):
    config, tokenizer = artifact.unpack_tflite(int8_tflite)
    for name, value in (("max_seq_len", 96), ("vocab_size", 12)):
        wrong = dataclasses.replace(config, **{name: value})
        with pytest.raises(InputError, match=f"config.json says .*{name} {value}\\b"):
            tflite_engine(int8_tflite, wrong)


def test_another_version(int8_tflite, tmp_path):
    content = int8_tflite.read_bytes()
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(int8_tflite) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        begin = min(info.header_offset for info in archive.infolist())
    path.write_bytes(content[:begin])
    members["config.json"] = json.dumps({"format": "neo_keras model 9"}).encode()
    with zipfile.ZipFile(path, "a") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    with pytest.raises(InputError, match="has the format 'neo_keras model 9', expected"):
        load_engine(path)
