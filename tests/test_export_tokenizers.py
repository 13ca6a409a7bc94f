"""Whatever its tokenizer is, a model is exported, and writes what Keras writes."""

import subprocess
import sys

import numpy as np
import pytest
import tokenizers
from sure_texts import sure_text
from tiny_models import ROOT, make_run, unicode_text
from waits import HANG_SECONDS

from neo_keras.export import litertlm, parity
from neo_keras.export.exporter import export_run
from neo_keras.export.formats import Source
from neo_keras.export.litertlm import LiteRTLM
from neo_keras.generation import artifact
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY, Sampler
from neo_keras.text.tokenizer import make_tokenizer

# Of 12 words and other characters that the text has, the two rarest are unknown.
VOCAB_SIZES = {"word": 11, "bpe": 271, "byte": None}


@pytest.fixture(
    scope="module",
    params=[
        "bpe",
        pytest.param("word", marks=pytest.mark.exhaustive),
        pytest.param("byte", marks=pytest.mark.exhaustive),
    ],
)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def run(kind, tmp_path_factory):
    text = unicode_text()
    tokenizer = make_tokenizer(kind, [text], VOCAB_SIZES[kind])
    path = tmp_path_factory.mktemp(kind) / "run"
    return make_run(path, steps=40, text=text, tokenizer=tokenizer, num_layers=1)


@pytest.fixture(scope="module")
def rows(run):
    return export_run(run, quantizations=["float32"])


@pytest.fixture(scope="module")
def keras(run):
    return load_engine(run.path)


def write(engine, tokenizer, prompt, num_tokens, sampler=GREEDY, seed=0):
    return "".join(generate_text(engine, tokenizer, prompt, num_tokens, sampler, seed))


PROMPTS = ["aéb ", "日本😀", unicode_text()[400:430], "\n"]


@pytest.mark.filterwarnings("ignore:the model has never seen")
def test_litert_lm_writes_what_keras_writes(run, rows, keras):
    lite_rt_lm = LiteRTLM(run.export / "model-float32.litertlm")
    engine, tokenizer = keras
    texts = set()
    for prompt in PROMPTS:
        # The lengths between them end within characters, too.
        for num_tokens in (*range(20, 25), 97 - len(tokenizer.encode(prompt))):
            expected = sure_text(engine, tokenizer, prompt, num_tokens)
            assert lite_rt_lm.continue_greedily(prompt, num_tokens).startswith(expected)
            texts.add(expected)
    lite_rt_lm.close()
    assert len(texts) > 7 and not all(text.isascii() for text in texts)


@pytest.mark.filterwarnings("ignore:the model has never seen")
@pytest.mark.parametrize("name", ["saved_model", "model-float32.tflite"])
def test_same_seed_same_text(run, rows, keras, name):
    engine, tokenizer = load_engine(run.export / name)
    assert tokenizer.to_json() == keras[1].to_json()
    for seed, prompt in enumerate(PROMPTS):
        # 150 tokens go past the context.
        text = write(engine, tokenizer, prompt, 150, Sampler(0.9, top_k=50), seed)
        expected = sure_text(*keras, prompt, 150, Sampler(0.9, top_k=50), seed)
        assert text.startswith(expected)
        assert "<unk>" not in text


def test_the_tokenizer_in_a_tflite_loads_elsewhere(run, rows, kind):
    _, tokenizer = artifact.unpack_tflite(run.export / "model-float32.tflite")
    text = unicode_text()[:1000]
    plain = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert tokenizer.kind == kind
    assert plain.encode(text).ids == tokenizer.encode(text).tolist()


def test_report(run, rows, keras, kind):
    text, tokenizer = run.load_validation_text(), keras[1]
    token_ids = tokenizer.encode(text)
    unknown = token_ids == (-1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id)
    assert unknown.any() == (kind == "word")
    known_bytes = sum(len(tokenizer.token_bytes(i)) for i in token_ids[~unknown])
    spelled = 8 * (len(text.encode()) - known_bytes + unknown.sum())
    for row in rows:
        assert 0 < row["loss"] < np.log(tokenizer.vocab_size) / 2  # not infinite, above all
        bits = row["loss"] / np.log(2) * len(token_ids) + spelled
        assert row["bits_per_char"] == pytest.approx(bits / len(text))
        assert row["greedy_agreement"] > 0.99
    card = (run.export / "README.md").read_text()
    start = {"word": "11 tokens: words", "bpe": "271 tokens: parts of", "byte": "256 tokens: bytes"}
    assert f"- {start[kind]}" in card


def test_the_loss_is_that_of_known_tokens(run, keras):
    """Worked out by hand: without the unknown token, and where it is no target."""
    tokenizer, model = keras[1], run.load_model()
    token_ids = tokenizer.encode(run.load_validation_text())
    suppressed_ids = tokenizer.suppressed_ids(tokenizer.vocab_size)
    reference = parity.make_reference(model, token_ids, suppressed_ids)
    losses = []
    for target, row in zip(np.concatenate(reference.targets), np.float64(reference.logits)):
        if target != tokenizer.unk_token_id:
            weights = np.where(reference.known, np.exp(row), 0)
            losses.append(-np.log(weights[target] / weights.sum()))
    assert reference.loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_the_check_of_a_bundle(run, rows, monkeypatch):
    """Its prompts have no unknown token, and leave room for what is written."""
    model, tokenizer = run.load_model(), run.load_tokenizer()
    token_ids = tokenizer.encode(run.load_validation_text())
    suppressed_ids = tokenizer.suppressed_ids(tokenizer.vocab_size)
    reference = parity.make_reference(model, token_ids, suppressed_ids)
    texts = litertlm.greedy_texts(Source(model, tokenizer, reference))
    path, checked = run.export / "model-float32.litertlm", []

    class Watched(LiteRTLM):
        def continue_greedily(self, prompt, num_tokens):
            checked.append((prompt, num_tokens))
            return super().continue_greedily(prompt, num_tokens)

    class Wrong(LiteRTLM):
        def continue_greedily(self, prompt, num_tokens):
            return super().continue_greedily(prompt, num_tokens)[:-1]

    monkeypatch.setattr(litertlm, "LiteRTLM", Watched)
    litertlm.check_text(path, texts, "float32")
    assert len(checked) == 3
    for prompt, num_tokens in checked:
        assert tokenizer.unknown_in(prompt) == []
        assert len(tokenizer.encode(prompt)) + num_tokens == 97
    monkeypatch.setattr(litertlm, "LiteRTLM", Wrong)
    with pytest.raises(parity.VerificationError, match="the LiteRT-LM bundle is wrong"):
        litertlm.check_text(path, texts, "float32")


@pytest.mark.filterwarnings("ignore:the model has never seen")
def test_generate_never_shows_half_a_character(run, rows):
    command = [sys.executable, str(ROOT / "generate.py"), run.export / "model-float32.tflite"]
    command += ["--prompt", "日本", "--seed", "3", "--max-tokens", "120", "--temperature", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        pieces = iter(lambda: process.stdout.raw.read(4096), b"")
        text = "".join(piece.decode() for piece in pieces)  # each by itself, or it raises
        assert process.wait(timeout=HANG_SECONDS) == 0
    engine, tokenizer = load_engine(run.export / "model-float32.tflite")
    assert text == "日本" + write(engine, tokenizer, "日本", 120, Sampler(1.0), 3) + "\n"
