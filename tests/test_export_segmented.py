"""The signatures that the web page runs, in the real runtime, against Keras and the host's sampler.

The context of 97 tokens has two buckets: up to slot 64, and up to slot 97.
"""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from read_flatbuffer import flatbuffer, operators, tensor_types
from sure_texts import sure_ids
from tiny_models import corpus_text
from tolerances import assert_close

from neo_keras.export.kv_cache import bucket_ends
from neo_keras.export.web import page_engine
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import Sampler

pytest_plugins = ["export_fixtures"]

UNK = 12


@pytest.fixture
def path(page_tflite):
    return page_tflite


@pytest.mark.parametrize(
    ("max_seq_len", "ends"),
    [(2, [2]), (64, [64]), (65, [64, 65]), (256, [64, 128, 256]), (300, [64, 128, 256, 300])],
)
def test_buckets(max_seq_len, ends):
    assert bucket_ends(max_seq_len) == ends


@pytest.mark.parametrize("prefix_len", [0, 5, 64, 71])
def test_logits(tiny_run, path, prefix_len):
    engine = page_engine(path, tiny_run.model_config)
    token_ids = tiny_run.load_tokenizer().encode(corpus_text()[200 : 200 + 97])
    expected = keras.ops.convert_to_numpy(tiny_run.load_model()(token_ids[None]))[0, prefix_len:]
    for _ in range(2):  # nothing of the first text is left
        engine.reset()
        engine.prefill(token_ids[:prefix_len])
        logits = np.array([engine.decode(token_id) for token_id in token_ids[prefix_len:]])
        # In each of 3 blocks, of 30 + 97 + 30 + 30 + 120 inputs.
        assert_close(logits[:, :UNK], expected[:, :UNK], additions=1_000)


@pytest.mark.parametrize(
    "sampler", [Sampler(0), Sampler(4.0), Sampler(5.0, top_k=5, top_p=0.8)], ids=str
)
def test_samples_what_python_samples(tiny_run, path, sampler):
    interpreter = Interpreter(str(path))
    engine, tokenizer = load_engine(tiny_run.path)
    prompt, seed = [3], 2**32 - 1
    expected = sure_ids(engine, prompt, 96, sampler, seed, [tokenizer.unk_token_id])
    token, sampled = prompt[0], []
    for step in range(96):
        sample = interpreter.get_signature_runner("sample_64" if step < 64 else "sample_97")
        outputs = sample(
            tokens=np.array([[token]], "int32"),
            input_pos=np.array([step], "int32"),
            step=np.array([step], "int32"),
            temperature=np.array([sampler.temperature], "float32"),
            top_k=np.array([sampler.top_k or 0], "int32"),
            top_p=np.array([sampler.top_p or 1], "float32"),
            seed=np.array([seed], "uint32").view("int32"),
        )
        token = int(outputs["next_token"][0])
        sampled.append(token)
    assert len(expected) > 9 and sampled[: len(expected)] == expected


def test_what_lite_rt_js_needs(path):
    model = flatbuffer(path)
    assert "INT64" not in tensor_types(model)
    assert not [name for name in operators(model) if name.startswith("CUSTOM")]
    for i in range(model.SubgraphsLength()):
        graph = model.Subgraphs(i)
        if graph.InputsLength():
            assert not set(graph.InputsAsNumpy()) & set(graph.OutputsAsNumpy())
        shapes = [graph.Tensors(t).ShapeSignatureAsNumpy() for t in range(graph.TensorsLength())]
        assert not any(np.any(np.less(shape, 0)) for shape in shapes)  # no length is open
