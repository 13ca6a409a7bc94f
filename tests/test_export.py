"""Whatever is exported computes and writes what the Keras model does, in the runtime it is for."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from read_flatbuffer import flatbuffer, operators, tensor_types
from sure_texts import sure_text
from tiny_models import corpus_text
from tolerances import assert_close

from neo_keras.errors import FailedError
from neo_keras.export.benchmark import run_benchmark
from neo_keras.export.litertlm import LiteRTLM, inner_engine
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY, Sampler
from neo_keras.model.gpt import HISTORY

pytest_plugins = ["export_fixtures"]

QUANTIZATIONS = ("float32", "float16", "int8", "int8-weights", "int4", "int4-block32")
FILES = [f"model-{q}.{suffix}" for suffix in ("tflite", "litertlm") for q in QUANTIZATIONS]
# How far the tiny model's files may be off. Float32 is `ADDITIONS` to logits of 7; a float32 by
# mistake would be below.
MAX_LOGIT_DIFFERENCE = {
    "float32": 1e-4, "float16": 0.02, "int8": 0.5, "int8-weights": 0.5, "int4": 2, "int4-block32": 2
}  # fmt: skip
MAX_LOSS_CHANGE = {"int4": 0.1, "int4-block32": 0.1}  # nats; a wrong file is off by 1 and more
UNK = 12
ADDITIONS = 1_000  # in each of 3 blocks, of 30 + 97 + 30 + 30 + 120 inputs


@pytest.fixture(scope="module")
def model(tiny_run):
    return tiny_run.load_model()


@pytest.fixture(scope="module")
def tokenizer(tiny_run):
    return tiny_run.load_tokenizer()


@pytest.fixture(scope="module")
def engines(tiny_run, exports, tmp_path_factory):
    """One for Keras, and one for each float32 form."""
    inner = tmp_path_factory.mktemp("bundle") / "inner.tflite"
    content = (tiny_run.export / "model-float32.litertlm").read_bytes()
    inner.write_bytes(content[content.index(b"TFL3") - 4 :])
    return {
        "keras": load_engine(tiny_run.path)[0],
        "saved_model": load_engine(tiny_run.export / "saved_model")[0],
        "tflite": load_engine(tiny_run.export / "model-float32.tflite")[0],
        "litertlm": inner_engine(inner, tiny_run.model_config),
    }


def write(engine, tokenizer, prompt, max_tokens, sampler=GREEDY, seed=0):
    return "".join(generate_text(engine, tokenizer, prompt, max_tokens, sampler, seed))


# Around the chunk sizes 8 and 64, and up to the context's 97. LiteRT-LM itself counts the first
# token that it writes, and stops where prompt and text fill the context: it takes at most 96.
PROMPT_LENGTHS = (1, 2, 7, 8, 9, 31, 63, 64, 66, 96)


def prompts():
    text = corpus_text()
    return [text[13 * n : 14 * n] for n in PROMPT_LENGTHS]


def test_every_form_writes_what_keras_writes(tiny_run, engines, tokenizer):
    lite_rt_lm = LiteRTLM(tiny_run.export / "model-float32.litertlm")
    texts = []
    for prompt in prompts():
        num_tokens = min(97 - len(prompt), 40)
        expected = sure_text(engines["keras"], tokenizer, prompt, num_tokens)
        for name in ("saved_model", "tflite"):
            text = write(engines[name], tokenizer, prompt, num_tokens)
            assert len(text) == num_tokens and text.startswith(expected), name
        assert lite_rt_lm.continue_greedily(prompt, num_tokens).startswith(expected)
        texts.append(expected)
    lite_rt_lm.close()
    assert sum(map(len, texts)) > 150 and len(set(texts)) > 5  # the prompt matters


@pytest.mark.parametrize("prompt_length", [3, 97, 131])
def test_same_seed_same_text_in_every_form(engines, tokenizer, prompt_length):
    prompt = corpus_text()[50 : 50 + prompt_length]
    sampler = Sampler(temperature=1.1, top_k=7, min_p=0.01)
    # Past the context window, twice: it goes on at 97 and at 97 + 49 tokens.
    texts = [sure_text(engines["keras"], tokenizer, prompt, 160, sampler, seed) for seed in (1, 2)]
    assert sum(map(len, texts)) > 160 and texts[0] != texts[1]
    for name in ("saved_model", "tflite", "litertlm"):
        for seed, expected in enumerate(texts, 1):
            text = write(engines[name], tokenizer, prompt, 160, sampler, seed)
            assert text.startswith(expected), name


def decoded_logits(engine, token_ids, prefix_len):
    engine.reset()
    engine.prefill(token_ids[:prefix_len])
    return np.array([engine.decode(token_id) for token_id in token_ids[prefix_len:]])


def loss(logits, targets):
    """Mean cross-entropy in nats, without the unknown token, which files never give."""
    logits = np.delete(np.float64(logits), UNK, axis=-1)
    return np.mean(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(targets)), targets])


@pytest.mark.parametrize("form", ["saved_model", "tflite", "litertlm"])
@pytest.mark.parametrize("prefix_len", [0, 5, 64, 71])
def test_float32_logits(model, engines, tokenizer, form, prefix_len):
    token_ids = tokenizer.encode(corpus_text()[200 : 200 + 97])
    expected = keras.ops.convert_to_numpy(model(token_ids[None]))[0, prefix_len:, :UNK]
    logits = decoded_logits(engines[form], token_ids, prefix_len)[:, :UNK]
    assert_close(logits, expected, ADDITIONS)
    assert np.ptp(expected) > 3  # a fitted model has opinions


@pytest.mark.parametrize("quantization", QUANTIZATIONS[1:])
def test_quantized_logits_and_loss(tiny_run, exports, model, tokenizer, quantization):
    engine, _ = load_engine(tiny_run.export / f"model-{quantization}.tflite")
    token_ids = tokenizer.encode(corpus_text()[-98:])
    expected = keras.ops.convert_to_numpy(model(token_ids[None, :-1]))[0]
    logits = decoded_logits(engine, token_ids[:-1], 0)
    difference = np.abs(logits - expected)[:, :UNK].max()
    assert 1e-4 < difference < MAX_LOGIT_DIFFERENCE[quantization]
    exact = loss(expected, token_ids[1:])
    assert exact < 2  # of log(12) = 2.48
    assert loss(logits, token_ids[1:]) == pytest.approx(
        exact, abs=MAX_LOSS_CHANGE.get(quantization, 0.01)
    )


@pytest.mark.parametrize("name", FILES)
def test_builtin_operators_only(tiny_run, exports, name):
    names = operators(flatbuffer(tiny_run.export / name))
    assert {"FULLY_CONNECTED", "SOFTMAX", "DYNAMIC_UPDATE_SLICE"} <= names
    assert not [n for n in names if n.startswith("CUSTOM")]


def test_the_check_for_builtin_operators_finds_others(tmp_path):
    import tensorflow as tf

    function = tf.function(lambda x: tf.bitwise.bitwise_and(x, 3), [tf.TensorSpec([5], tf.int32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    (tmp_path / "flex.tflite").write_bytes(converter.convert())
    assert operators(flatbuffer(tmp_path / "flex.tflite")) == {
        "CUSTOM FlexBitwiseAnd",
        "CUSTOM FlexIdentity",
    }


@pytest.mark.parametrize("name", FILES)
def test_no_int64(tiny_run, exports, name):
    assert "INT64" not in tensor_types(flatbuffer(tiny_run.export / name))  # LiteRT.js has none


@pytest.mark.parametrize("name", FILES)
def test_no_output_is_an_input(tiny_run, exports, name):
    """LiteRT's CompiledModel reads such an input from the memory of the output: garbage."""
    model = flatbuffer(tiny_run.export / name)
    signatures = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
    graphs = [model.Subgraphs(signature.SubgraphIndex()) for signature in signatures]
    with_inputs = [graph for graph in graphs if graph.InputsLength()]
    assert len(with_inputs) >= 2
    for graph in with_inputs:
        assert not set(graph.InputsAsNumpy()) & set(graph.OutputsAsNumpy()), graph.Name()


SAMPLING_INPUTS = ("temperature", "top_k", "top_p", "seed")


def test_signatures_of_a_tflite(tiny_run, exports):
    interpreter = Interpreter(str(tiny_run.export / "model-int8.tflite"))
    cache = sorted([f"kv_cache_{kind}_{i}" for i in range(2) for kind in "kv"] + [HISTORY])
    in_place = ["input_pos", "key_positions", *cache, "tokens"]
    assert interpreter.get_signature_list() == {
        "decode_in_place": {"inputs": in_place, "outputs": [*cache, "logits"]},
        "prefill_in_place": {"inputs": in_place, "outputs": cache},
        "decode": {"inputs": ["input_pos", "tokens"], "outputs": ["logits"]},
        "generate": {
            "inputs": sorted(
                ["tokens", "prompt_len", "max_new_tokens", "stop_token", *SAMPLING_INPUTS]
            ),
            "outputs": ["count", "token_ids"],
        },
        "prefill": {"inputs": ["input_pos", "tokens"], "outputs": ["input_pos"]},
        "reset": {"inputs": [], "outputs": ["input_pos"]},
        "sample": {
            "inputs": sorted(["tokens", "input_pos", "step", *SAMPLING_INPUTS]),
            "outputs": ["next_token"],
        },
    }
    details = interpreter.get_signature_runner("prefill").get_input_details()
    assert [details[name]["shape"].tolist() for name in ("tokens", "input_pos")] == [[1, 64], [64]]
    assert {details[name]["dtype"] for name in details} == {np.int32}


def test_report(tiny_run, exports):
    assert [row["file"] for row in exports] == ["(Keras)", "saved_model", *FILES]
    for row in exports:
        measured = {"loss", "bits_per_char", "max_logit_difference", "greedy_agreement"}
        assert row.keys() >= measured | {"file", "tokens_per_second"}
        assert row["tokens_per_second"] > 0
        # One token is one character here.
        assert row["bits_per_char"] == pytest.approx(row["loss"] / np.log(2))
        agreement = 0.99 if "float32" in row["file"] else 0.7
        assert agreement <= row["greedy_agreement"] <= 1
        quantization = row["file"].removeprefix("model-").split(".")[0]
        change = MAX_LOSS_CHANGE.get(quantization, 0.01)
        assert row["loss"] == pytest.approx(exports[0]["loss"], abs=change)
        limit = MAX_LOGIT_DIFFERENCE.get(quantization, 1e-4)
        assert 0 <= row["max_logit_difference"] < limit
    assert "size_bytes" not in exports[0]
    num_params = tiny_run.load_model().count_params()
    for row in exports[2:]:
        assert row["size_bytes"] == (tiny_run.export / row["file"]).stat().st_size
        assert row["bytes_per_parameter"] == row["size_bytes"] / num_params
    files = [p for p in (tiny_run.export / "saved_model").rglob("*") if p.is_file()]
    assert exports[1]["size_bytes"] == sum(file.stat().st_size for file in files) > 100_000
    names = {path.name for path in tiny_run.export.iterdir()}
    assert names == {"saved_model", "report.json", "README.md", *FILES}  # nothing partial is left


def test_what_a_tflite_costs(tiny_run, exports):
    for row in exports:
        if not row["file"].endswith(".tflite"):
            continue
        assert 0 < row["load_seconds"] < 60
        # Python, NumPy and LiteRT take some 60 MB; with TensorFlow it would be 500.
        assert 20e6 < row["peak_memory_bytes"] < 300e6
        for what in ("prefill", "decode"):
            speeds = row[f"{what}_tokens_per_second"]
            assert sorted(speeds) == ["1", "2"] and min(speeds.values()) > 0


def test_timing_a_file_fails(tmp_path):
    path = tmp_path / "no.tflite"
    with pytest.raises(FailedError, match="no.tflite was verified, but .* exit code 1"):
        run_benchmark(path)


def test_model_card(tiny_run, exports):
    card = (tiny_run.export / "README.md").read_text()
    assert f"{tiny_run.load_model().count_params():,} parameters" in card
    for row in exports[1:]:
        assert f"| `{row['file']}` | {row['size_bytes'] / 1e6:.2f} MB |" in card
    assert "{" not in card and "/tmp" not in card


PLAIN_TENSORFLOW = """
import sys
class Blocker:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "neo_keras":
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
signatures = loaded.signatures
assert {"serve", "prefill", "decode"} <= set(signatures), set(signatures)
tokens = tf.constant(np.load("tokens.npy"))
served = signatures["serve"](token_ids=tokens)["logits"]
cache = {
    f"kv_cache_{kind}_{i}": tf.zeros([2, 5, 97, 6]) for i in range(2) for kind in "kv"
}
cache["kv_cache_k_tokens"] = tf.zeros([2, 3 + 97], tf.int32)
cache = signatures["prefill"](tokens=tokens[:, :7], input_pos=tf.range(7), **cache)
decoded = []
for i in range(7, 11):
    outputs = signatures["decode"](tokens=tokens[:, i:i + 1], input_pos=tf.constant([i]), **cache)
    decoded.append(outputs.pop("logits"))
    cache = outputs
np.savez("logits.npz", served=served, decoded=tf.concat(decoded, axis=1))
"""


def test_saved_model_needs_only_tensorflow(tiny_run, exports, model, tmp_path):
    tokens = np.random.default_rng(23).integers(0, 12, (2, 11)).astype("int32")
    np.save(tmp_path / "tokens.npy", tokens)
    command = [sys.executable, "-c", PLAIN_TENSORFLOW, str(tiny_run.export / "saved_model")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logits = np.load(tmp_path / "logits.npz")
    expected = keras.ops.convert_to_numpy(model(tokens))
    assert logits["served"].shape == (2, 11, 13)
    assert_close(logits["served"][..., :UNK], expected[..., :UNK], ADDITIONS)
    assert_close(logits["decoded"][..., :UNK], expected[:, 7:, :UNK], ADDITIONS)
