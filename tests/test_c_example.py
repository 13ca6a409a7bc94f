"""The program in C writes what Python writes."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from c_program import SOURCE, character_json, fake_engine, fake_flatbuffer, pack, run
from tiny_models import ALPHABET, corpus_text

from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.text.tokenizer import Tokenizer

pytest_plugins = ["c_fixtures", "export_fixtures"]


# Around the chunk size 64 and the context's 97; written past the context, twice.
@pytest.mark.parametrize("prompt_length", [0, 1, 64, 65, 90, 97, 98, 131])
def test_greedy_text_is_that_of_python(program, int8_tflite, prompt_length):
    engine, tokenizer = load_engine(int8_tflite)
    prompt = corpus_text()[50 : 50 + prompt_length]
    expected = "".join(generate_text(engine, tokenizer, prompt, 160, GREEDY))
    assert run(program, int8_tflite, prompt, 160) == (0, f"{prompt}{expected}\n", "")


def test_the_prompt_matters(program, int8_tflite):
    texts = {run(program, int8_tflite, prompt, 30)[1][3:] for prompt in ("abc", "gg\n", "hij")}
    assert len(texts) == 3


def test_no_tokens(program, int8_tflite):
    assert run(program, int8_tflite, "abc", 0) == (0, "abc\n", "")


# Quotes, a backslash, controls, two to four bytes of UTF-8, and one that JSON can write as a pair
# of surrogates.
@pytest.mark.parametrize("ensure_ascii", [False, True])
def test_any_characters(program, path, tmp_path, ensure_ascii):
    alphabet = '\n\x01"\\/é\u2028€語😀'
    tokenizer_json = json.dumps(json.loads(character_json(alphabet)), ensure_ascii=ensure_ascii)
    assert ("\\ud83d\\ude00" in tokenizer_json) == ensure_ascii
    flatbuffer = fake_flatbuffer(tmp_path, 11)
    pack(path, flatbuffer, max_seq_len=7, vocab_size=11, tokenizer_json=tokenizer_json)
    tokenizer = Tokenizer.from_json(tokenizer_json)
    written = ""
    for prompt in ("", alphabet, "é😀"):
        expected = "".join(generate_text(fake_engine(7, 11), tokenizer, prompt, 40, GREEDY))
        assert run(program, path, prompt, 40) == (0, f"{prompt}{expected}\n", "")
        written += expected
    assert set(written) == set(alphabet)


def test_the_smallest_context(program, path, flatbuffer):
    pack(path, flatbuffer, max_seq_len=2)
    tokenizer = Tokenizer.characters_of(ALPHABET)
    expected = "".join(generate_text(fake_engine(2, 13), tokenizer, "abc", 9, GREEDY))
    assert run(program, path, "abc", 9) == (0, f"abc{expected}\n", "")


@pytest.mark.parametrize(("temperature", "seed"), [(None, None), (0, 3), (0.7, None), (1.2, 5)])
def test_sample_is_given_everything(program, path, flatbuffer, temperature, seed):
    pack(path, flatbuffer)
    token, text, characters = 4, "abc", sorted(ALPHABET)
    for step in range(20):
        knobs = int(10 * temperature + 2) + 7 * (seed or 0) + 9 * step if temperature else 1
        token = (3 * token + 2 + step + knobs) % 12
        text += characters[token]
    args = [arg for arg in (temperature, seed) if arg is not None]
    assert run(program, path, "abc", 20, *args) == (0, f"{text}\n", "")


def test_the_commands_of_the_readme(program, int8_tflite, tmp_path):
    """Word for word, in a copy of the directory."""
    directory = shutil.copytree(SOURCE, tmp_path / "c")
    shutil.copy(int8_tflite, directory / "model-int8.tflite")
    blocks = re.findall(r"```sh\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    commands = "\n".join(blocks).replace("ROMEO:", "abc")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(["sh", "-ec", commands], cwd=directory, capture_output=True, text=True,
                          env={**os.environ, "PATH": path})  # fmt: skip
    engine, tokenizer = load_engine(int8_tflite)
    expected = "".join(generate_text(engine, tokenizer, "abc", 100, GREEDY))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"abc{expected}\n", "")
