"""A model whose tokenizer came with its weights writes in each runtime what Keras writes."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest
from imported_tokenizers import MAKE_IMPORTED, MAKE_OTHERS, hard_text
from page_driver import console_errors, open_page, served
from page_driver import write as write_in_page
from sure_texts import sure_text
from tiny_models import make_run

from neo_keras.errors import InputError
from neo_keras.export import web
from neo_keras.export.formats import Source
from neo_keras.export.litertlm import LiteRTLM, bundle, litert_lm_signatures
from neo_keras.export.litertlm_chat import prompt_template
from neo_keras.export.signatures import page_signatures
from neo_keras.export.tflite import convert, write_tflite
from neo_keras.generation import artifact
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY, Sampler
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig

pytest_plugins = ["export_fixtures", "web_fixtures"]

TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.content }}{% endfor %}"
CONFIGS = {
    "smollm": TokenizerConfig(),
    "qwen2": TokenizerConfig("</s>", None, False, TEMPLATE),
    "llama2": TokenizerConfig("</s>", "<s>", True, TEMPLATE),
}
NUM_PADDING = 5  # rows of the embedding that no token has
PROMPTS = ["the a", "日本", " 12", "", "x\n\n the", "don't", "the<s>"]


QWEN2 = pytest.param("qwen2", marks=pytest.mark.exhaustive)


@pytest.fixture(scope="module", params=["smollm", "llama2", QWEN2])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def run(name, tmp_path_factory):
    tokenizer = Tokenizer(MAKE_IMPORTED[name](), CONFIGS[name])
    return make_run(
        tmp_path_factory.mktemp(name) / "run", steps=40, text=hard_text(5, 5000, special=False),
        tokenizer=tokenizer, num_layers=1, vocab_size=tokenizer.vocab_size + NUM_PADDING,
    )  # fmt: skip


@pytest.fixture(scope="module")
def keras(run):
    engine, tokenizer = load_engine(run.path)
    return engine, tokenizer


def test_the_configuration_stays_with_a_run(run, name):
    opened = RunDirectory.open(run.path)
    assert opened.load_tokenizer().config == CONFIGS[name]
    path = run.path / "tokenizer_config.json"
    assert path.exists() == (CONFIGS[name] != TokenizerConfig())
    before = path.read_bytes() if path.exists() else None
    other = dataclasses.replace(CONFIGS[name], bos_token="</s>")
    path.write_text(json.dumps(dataclasses.asdict(other)))
    with pytest.raises(InputError, match="is not the one that the model was trained with"):
        opened.load_tokenizer()
    path.write_bytes(before) if before else path.unlink()
    opened.load_tokenizer()


@pytest.fixture(scope="module")
def tflite(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "model.tflite"
    write_tflite(Source(run.load_model(), run.load_tokenizer()), path, "float32")
    return path


def test_a_tflite_file_writes_what_keras_writes(run, tflite, name, keras):
    with zipfile.ZipFile(tflite) as archive:
        has_config = "tokenizer_config.json" in archive.namelist()
        files = json.loads(archive.read("config.json"))["tokenizer_files"]
    assert has_config == (CONFIGS[name] != TokenizerConfig()) == (len(files) == 2)
    engine, tokenizer = load_engine(tflite)
    assert (tokenizer.config, tokenizer.to_json()) == (CONFIGS[name], keras[1].to_json())
    for seed, prompt in enumerate(PROMPTS):
        for sampler in (GREEDY, Sampler(1.0)):
            text = "".join(generate_text(engine, tokenizer, prompt, 60, sampler, seed))
            assert text.startswith(sure_text(*keras, prompt, 60, sampler, seed))


def test_a_saved_model_carries_the_configuration(run, name, tmp_path):
    artifact.pack_saved_model(tmp_path, run.model_config, run.load_tokenizer())
    _, tokenizer = artifact.unpack_saved_model(tmp_path)
    assert tokenizer.config == CONFIGS[name]


def test_rows_without_a_token_are_never_written(run, keras):
    """Though these are the most likely ones."""
    model, tokenizer = run.load_model(), keras[1]
    model(np.zeros((1, 3), "int32"))
    engine = keras_engine(model)
    decode = engine.decode

    def decode_padding(*args):
        logits = np.array(decode(*args))
        logits[-NUM_PADDING:] = 1e9
        return logits

    engine.decode = decode_padding
    assert "".join(generate_text(engine, tokenizer, "the", 20, GREEDY))
    assert "\ufffd" not in "".join(generate_text(engine, tokenizer, "the", 20, GREEDY))


def test_a_prompt_begins_with_the_token_for_that(run, name, keras, monkeypatch):
    engine, tokenizer = keras
    begun = []
    monkeypatch.setattr(engine, "begin", lambda token_ids, reuse: begun.append(list(token_ids)))
    monkeypatch.setattr(engine, "decode", lambda *args: np.zeros(engine.vocab_size))
    first = [1] if name == "llama2" else []
    texts = ["the", "", "the " * 999]
    for prompt in texts:
        next(generate_text(engine, tokenizer, prompt, 1, GREEDY))
    ids = [tokenizer.encode(text).tolist() for text in texts]
    size = engine.max_seq_len
    assert begun == [first + ids[0], first or [tokenizer.start_token_id], ids[2][-size:]]


def test_litert_lm_writes_what_keras_writes(run, name, keras, tmp_path):
    source = Source(run.load_model(), run.load_tokenizer())
    convert(source, tmp_path / "model.tflite", "float32", litert_lm_signatures)
    path = tmp_path / "model.litertlm"
    bundle(tmp_path / "model.tflite", path, run.model_config, source.tokenizer)
    texts = []
    with LiteRTLM(path) as runtime:
        for prompt in filter(None, PROMPTS):
            for num_tokens in (9, 10, 11, 12, 40):
                expected = sure_text(*keras, prompt, num_tokens)
                text = runtime.continue_greedily(prompt, num_tokens)
                texts.append((prompt, num_tokens, expected, text))
    # Of bytes that are no character, the two make a different number of "\ufffd".
    wrong = [(p, n, e, t) for p, n, e, t in texts if not t.startswith(e.partition("\ufffd")[0])]
    assert wrong == []
    assert sum(len(expected) for _, _, expected, _ in texts) > 300
    metadata = (tmp_path / "metadata.pb").read_bytes()
    template = prompt_template(CONFIGS[name])
    assert template.encode() in metadata


def test_a_page_writes_what_keras_writes(runtime, browser, run, name, keras, tmp_path):
    source = Source(run.load_model(), run.load_tokenizer())
    write_tflite(source, tmp_path / "model.tflite", "float32", page_signatures)
    web.write_page_around(tmp_path / "model.tflite")
    has_config = (tmp_path / "tokenizer_config.json").exists()
    assert has_config == (CONFIGS[name] != TokenizerConfig())
    with served(tmp_path) as url:
        num_events, num_chars = len(browser.events), 0
        page = open_page(browser, url)
        for seed, prompt in enumerate(PROMPTS):
            text = write_in_page(page, prompt=prompt, length=40, temperature=1, seed=seed)
            expected = sure_text(*keras, prompt, 40, Sampler(1.0), seed)
            assert text.startswith(expected)
            num_chars += len(expected)
        assert num_chars > 100
        assert console_errors(browser.events[num_events:]) == []
        page.close()


def test_a_page_that_could_not_encode_is_not_made(tmp_path):
    source = Source(None, Tokenizer(MAKE_OTHERS["unigram"]()))
    with pytest.raises(InputError, match="a web page cannot have this tokenizer: it has the model"):
        web.write(source, tmp_path / "web", "float32")
    assert not (tmp_path / "web").exists()
