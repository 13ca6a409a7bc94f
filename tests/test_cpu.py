"""Which of LiteRT's two runtimes decodes, by the CPU; both write the same text."""

import numpy as np
import pytest
from tiny_models import corpus_text

from neo_keras import environment
from neo_keras.export import parity, tflite
from neo_keras.export.formats import Source
from neo_keras.generation.compiled_model_runner import CompiledModelRunner
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.engine import Runner
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY, Sampler

pytest_plugins = ["export_fixtures"]

CORTEX_A72 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU part\t: 0xd08

"""
CORTEX_A76 = CORTEX_A72.replace("crc32", "crc32 atomics fphp asimddp").replace("0xd08", "0xd0b")
ZEN_3 = "processor\t: 0\nmodel name\t: atomics\nflags\t\t: fpu sse avx2\nbogomips\t: 1\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretends to be one."""

    def make(system, architecture, cpuinfo):
        monkeypatch.setattr(environment.sys, "platform", system)
        monkeypatch.setattr(environment.platform, "machine", lambda: architecture)
        monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")
        if cpuinfo:
            environment.CPUINFO.write_text(2 * cpuinfo)

    return make


@pytest.mark.parametrize(
    ("system", "architecture", "cpuinfo", "runs"),
    [
        ("linux", "aarch64", CORTEX_A72, False),
        ("linux", "aarch64", CORTEX_A76, True),
        ("linux", "aarch64", None, False),  # unknown: what runs everywhere
        ("linux", "x86_64", ZEN_3, True),
        ("darwin", "arm64", None, True),  # every Mac has them
        ("win32", "AMD64", None, True),
    ],
)
def test_runs_compiled_model(machine, system, architecture, cpuinfo, runs):
    machine(system, architecture, cpuinfo)
    assert environment.runs_compiled_model() == runs


def test_features(machine):
    machine("linux", "x86_64", ZEN_3)
    assert environment.cpu_features() == {"fpu", "sse", "avx2"}
    machine("linux", "aarch64", CORTEX_A72)
    assert environment.cpu_features() == {"fp", "asimd", "evtstrm", "crc32", "cpuid"}


def test_the_engine_by_the_cpu(machine, int8_tflite):
    assert type(load_engine(int8_tflite)[0]._runner) is CompiledModelRunner
    machine("linux", "aarch64", CORTEX_A72)
    assert type(load_engine(int8_tflite)[0]._runner) is Runner


# Past a prefill chunk, and past the context of 97.
@pytest.mark.parametrize("prompt_length", [0, 70])
@pytest.mark.parametrize("sampler", [GREEDY, Sampler(0.8, top_p=0.9)])
def test_the_same_text(machine, int8_tflite, prompt_length, sampler):
    def text():
        engine, tokenizer = load_engine(int8_tflite)
        prompt = corpus_text()[:prompt_length]
        return "".join(generate_text(engine, tokenizer, prompt, 120, sampler, seed=3))

    expected = text()
    machine("linux", "aarch64", CORTEX_A72)
    assert text() == expected


def test_export_verifies_with_what_runs(tiny_run, int8_tflite, monkeypatch):
    """The other runtime would end the process."""
    model, tokenizer = tiny_run.load_model(), tiny_run.load_tokenizer()
    reference = parity.make_reference(model, tokenizer.encode(corpus_text(300)), None)
    monkeypatch.setattr(tflite, "write_tflite", lambda *args: None)
    monkeypatch.setattr(tflite, "runs_compiled_model", lambda: False)
    monkeypatch.setattr("neo_keras.generation.load.runs_compiled_model", lambda: False)
    monkeypatch.setattr("neo_keras.generation.compiled_model_runner.CompiledModelRunner", None)
    found = tflite.write(Source(model, tokenizer, reference), int8_tflite, "int8")
    assert found.greedy_agreement > 0.9


def test_the_number_of_threads_changes_nothing(int8_tflite):
    logits = []
    for num_threads in (1, 2, 3):
        engine, _ = load_engine(int8_tflite, num_threads)
        engine.begin([3, 5, 7])
        logits.append(engine.decode(7))
    np.testing.assert_allclose(logits[1:], np.stack([logits[0]] * 2), rtol=0, atol=0.05)


@pytest.mark.parametrize(("num_cores", "num_threads"), [(1, 1), (3, 3), (64, 4)])
def test_the_number_of_threads_by_the_cores(int8_tflite, monkeypatch, num_cores, num_threads):
    from neo_keras.generation import compiled_model_runner, load

    got = []

    class CountingRunner:
        functions = ()

        def __init__(self, path, config, num_threads):
            got.append(num_threads)

    monkeypatch.setattr(compiled_model_runner, "CompiledModelRunner", CountingRunner)
    monkeypatch.setattr(load, "num_cores", lambda: num_cores)
    load_engine(int8_tflite)
    load_engine(int8_tflite, 7)
    assert got == [num_threads, 7]
