"""What a person has set for other programs, or has not: no home, no UTF-8, another Keras."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from scripts import run_script
from tiny_models import ROOT

from neo_keras import environment
from neo_keras.environment import cache_directory, prepare_for_keras


@pytest.fixture
def variables(monkeypatch, tmp_path):
    """The environment, to be changed; no cache but in the home that it names."""
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.environ.get("HOME", "~") + path[1:])
    environment._temporary_cache.cache_clear()
    yield os.environ
    environment._temporary_cache.cache_clear()


def test_where_the_cache_is(variables, tmp_path):
    assert cache_directory() == tmp_path / ".cache" / "neo_keras"
    variables["XDG_CACHE_HOME"] = str(tmp_path / "else")
    assert cache_directory() == tmp_path / "else" / "neo_keras"
    variables["XDG_CACHE_HOME"] = "relative"  # to be ignored, by its specification
    assert cache_directory() == tmp_path / ".cache" / "neo_keras"


@pytest.mark.parametrize("home", [None, "/nonexistent", "/proc"])
def test_without_a_home_the_cache_is_temporary(variables, tmp_path, monkeypatch, home):
    monkeypatch.chdir(tmp_path)
    variables.pop("HOME")
    if home:
        variables["HOME"] = home
    monkeypatch.setattr(os, "access", lambda path, mode: os.path.exists(path) and path != "/proc")
    cache = cache_directory()
    assert cache.is_absolute() and cache.parent.is_dir() and home not in map(str, cache.parents)
    assert cache_directory() == cache and not list(tmp_path.iterdir())


def test_nothing_set_for_other_programs_reaches_keras(variables):
    set_for_others = {"BACKEND": "jax", "MAX_STEPS_PER_EPOCH": "1", "HOME": "/elsewhere"}
    variables.update({f"KERAS_{name}": value for name, value in set_for_others.items()})
    prepare_for_keras()
    assert {name: value for name, value in variables.items() if name.startswith("KERAS")} == {
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(cache_directory() / "keras"),
    }


def test_trains_whatever_is_set_for_keras(tmp_path, corpus_file):
    """Another process, for this one has its Keras already."""
    (tmp_path / ".keras").mkdir()
    settings = {"backend": "jax", "floatx": "float64", "image_data_format": "channels_first"}
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    variables = {"HOME": str(tmp_path), "KERAS_BACKEND": "x", "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    shape = "--num-layers 1 --num-heads 1 --hidden-dim 16 --seq-len 16 --num-speculative-tokens 0"
    words = f"--run run --data {corpus_file} --steps 3 --compile off {shape}".split()
    result = subprocess.run(
        [sys.executable, ROOT / "train.py", *words],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["step"] == 3
    assert json.loads((tmp_path / ".keras" / "keras.json").read_text()) == settings


@pytest.mark.parametrize(
    "words", [["train.py", "--run"], ["generate.py"], ["export.py"], ["export.py", "--out"]]
)
def test_names_that_tensorflow_cannot_open(tmp_path, words):
    result = run_script(*words, b"caf\xe9", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: argument ") and result.stderr.count("\n") == 1
    assert r"expected a name in UTF-8, got 'caf\udce9'" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="page faults are counted on Linux")
def test_freed_memory_is_kept():
    """Another process, whose C library nothing has asked to keep anything."""
    program = """\
import resource
import numpy as np
from neo_keras.environment import keep_memory

def faults():
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin

before = faults()
keep_memory()
faults()
print(before, faults())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after < 100
    huge_pages = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not (huge_pages.exists() and "[always]" in huge_pages.read_text()):
        assert before > 1000
