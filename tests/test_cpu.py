"""Which of LiteRT's two runtimes decodes, by the CPU; both write the same text."""

import numpy as np
import pytest
from tiny_models import corpus_text

from neo_keras import environment
from neo_keras.export import parity, tflite
from neo_keras.export.formats import Source
from neo_keras.generation import compiled_model_runner, load
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
    reference = parity.make_reference(model, tokenizer.encode(corpus_text(300)))
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


@pytest.mark.parametrize(
    ("num_cores", "slower", "made", "chosen"),
    [(1, None, [1], 1), (3, 1, [3, 1], 3), (3, 3, [3, 1], 1), (64, 4, [4, 1], 1)],
)
def test_the_faster_number_of_threads(int8_tflite, monkeypatch, num_cores, slower, made, chosen):
    got, now = [], [0.0]

    class TimedRunner(Runner):
        def __init__(self, path, config, num_threads):
            super().__init__({"decode": None})
            self.num_threads, self.shape = num_threads, (1, config.vocab_size)
            got.append(num_threads)

        def run(self, name, **inputs):
            now[0] += 2.0 if self.num_threads == slower else 1.0
            return {"logits": np.zeros(self.shape)}

    monkeypatch.setattr(compiled_model_runner, "CompiledModelRunner", TimedRunner)
    monkeypatch.setattr(load, "num_cores", lambda: num_cores)
    monkeypatch.setattr(load.time, "perf_counter", lambda: now[0])
    engine, _ = load_engine(int8_tflite)
    assert (got, engine._runner.num_threads) == (made, chosen)
    load_engine(int8_tflite, 7)
    assert got == [*made, 7]


def test_a_large_file_is_loaded_once(int8_tflite, monkeypatch):
    got = []
    make = compiled_model_runner.CompiledModelRunner
    monkeypatch.setattr(load, "MAX_TIMED_BYTES", int8_tflite.stat().st_size - 1)
    monkeypatch.setattr(
        compiled_model_runner, "CompiledModelRunner", lambda *args: got.append(args) or make(*args)
    )
    load_engine(int8_tflite)
    assert len(got) == 1
