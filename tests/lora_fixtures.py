"""A base of transformers' form, a text, and a run that fine-tuned adapters on it."""

import numpy as np
import pytest
import tiny_llama
from lora_runs import tune_here

from neo_keras.weights.huggingface import write_folder


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A folder of transformers, of Llama's shape."""
    path = tmp_path_factory.mktemp("base") / "llama"
    write_folder(path, *tiny_llama.make("huggingface"))
    return path


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """Text of the letters that the tokenizer of `tiny_llama` knows."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    words = np.random.default_rng(4).choice(["the ", "été ", "we'll ", "日本語。", "x_1\n"], 900)
    path.write_text("".join(words), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tuned(base, text_file, tmp_path_factory):
    """A run of 11 steps, undisturbed."""
    return tune_here(tmp_path_factory.mktemp("tuned") / "run", base, text_file)[0]
