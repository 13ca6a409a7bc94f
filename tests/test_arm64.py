"""Exported files on ARM64 Linux, with and without atomic instructions (LSE), from Python and C."""

import json
import os
import re
import shutil
import signal
import subprocess

import numpy as np
import pytest
from arm64 import CPUS, Arm64, CannotBeHad
from c_program import SOURCE
from tiny_models import corpus_text

from neo_keras.export.formats import Source
from neo_keras.export.tflite import write_tflite
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY, Sampler
from neo_keras.native_logs import LAST_WORDS

pytest_plugins = ["export_fixtures"]
pytestmark = pytest.mark.exhaustive

# The largest difference of a logit from this machine's. Of this model it was 2e-6, in int4-block32
# 2e-4; where an activation is rounded to the other of two integers, it changes by 1/127.
BOUNDS = {"float32": 1e-4, "int8": 0.05, "int4-block32": 0.05}
PROMPT, NUM_TOKENS = corpus_text()[:70], 60  # past a prefill chunk of 64, and the context of 97
TOKEN_IDS = np.random.default_rng(5).integers(12, size=90).tolist()
LOGITS = """
import json, sys
from neo_keras.generation.load import load_engine
engine, _ = load_engine(sys.argv[1])
engine.begin(json.loads(sys.argv[2])[:70])
logits = [engine.decode(token_id).tolist() for token_id in json.loads(sys.argv[2])[69:]]
print(json.dumps([type(engine._runner).__name__, logits]))
"""
UNASKED = """
import sys
from neo_keras import environment
environment.runs_compiled_model = lambda: True
from neo_keras.generation.load import load_engine
load_engine(sys.argv[1])
"""


@pytest.fixture(scope="module", params=CPUS)
def machine(request, tmp_path_factory):
    try:
        return Arm64(request.param, tmp_path_factory.mktemp(request.param))
    except CannotBeHad as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def files(tiny_run, tmp_path_factory):
    """{quantization: path}."""
    source = Source(tiny_run.load_model(), tiny_run.load_tokenizer())
    directory = tmp_path_factory.mktemp("arm64")
    paths = {quantization: directory / f"{quantization}.tflite" for quantization in BOUNDS}
    for quantization, path in paths.items():
        write_tflite(source, path, quantization)
    return paths


def text_here(path, sampler, seed=0):
    engine, tokenizer = load_engine(path)
    return PROMPT + "".join(generate_text(engine, tokenizer, PROMPT, NUM_TOKENS, sampler, seed))


def test_the_text_is_that_of_this_machine(machine, files, record_property):
    library = machine.packages / "ai_edge_litert" / "libLiteRtWebGpuAccelerator.so"
    assert library.exists()  # what ends the process where there are no atomic instructions
    options = ("--prompt", PROMPT, "--max-tokens", NUM_TOKENS, "--seed", 3)
    done = machine.python("generate.py", files["float32"], *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == text_here(files["float32"], Sampler(0.8), 3) + "\n"
    record_property("summary", f"{machine.cpu}: float32 text as here, {library.name} beside it")


@pytest.mark.parametrize("quantization", BOUNDS)
def test_the_logits_are_those_of_this_machine(machine, files, quantization, record_property):
    path = files[quantization]
    done = machine.python("-c", LOGITS, path, json.dumps(TOKEN_IDS))
    assert (done.returncode, done.stderr) == (0, "")
    runner_name, logits = json.loads(done.stdout)
    has_atomics = machine.cpu == "cortex-a76"
    assert runner_name == ("CompiledModelRunner" if has_atomics else "Runner")
    engine, _ = load_engine(path)
    engine.begin(TOKEN_IDS[:70])
    expected = [engine.decode(token_id) for token_id in TOKEN_IDS[69:]]
    difference = np.abs(np.array(logits) - expected).max()
    record_property("summary", f"{machine.cpu}: {quantization} logits to {difference:.1e}")
    assert difference <= BOUNDS[quantization]


def test_what_kills_the_process_has_its_say(machine, files):
    """With the runtime that such a CPU cannot have."""
    done = machine.python("-c", UNASKED, files["int8"])
    if machine.cpu == "cortex-a76":
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == -signal.SIGILL
        assert "lse" in done.stderr and LAST_WORDS in done.stderr


@pytest.fixture(scope="module")
def program(machine, tmp_path_factory):
    """The C program, built with the command of its README."""
    litert = machine.packages / "ai_edge_litert"
    directory = shutil.copytree(SOURCE, tmp_path_factory.mktemp("c") / "c")
    command = re.search("^aarch64-linux-gnu-gcc .*", (SOURCE / "README.md").read_text(), re.M)[0]
    environment = {"PATH": os.environ["PATH"], "LITERT": str(litert)}
    done = subprocess.run(
        ["sh", "-c", command], cwd=directory, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    shutil.copy(litert / "libLiteRt.so", directory)
    return directory / "generate"


@pytest.mark.parametrize("quantization", BOUNDS)
def test_the_text_of_the_c_program(machine, program, files, quantization):
    done = machine.run(program, files[quantization], PROMPT, NUM_TOKENS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == text_here(files[quantization], GREEDY) + "\n"
