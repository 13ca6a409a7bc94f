"""Every weight is stored once and in the bits that the file's name says, tables included."""

import keras
import numpy as np
import pytest
from read_flatbuffer import constants, flatbuffer, integers, operators
from tiny_models import ALPHABET, SHAPE

from neo_keras.config import ModelConfig
from neo_keras.export import embedding_lookup
from neo_keras.export.formats import Source
from neo_keras.export.litertlm import LiteRTLM
from neo_keras.export.quantization import DEFAULTS, QUANTIZATIONS
from neo_keras.export.tflite import write_tflite
from neo_keras.generation.load import tflite_engine
from neo_keras.model.gpt import GPT
from neo_keras.text.tokenizer import Tokenizer

pytest_plugins = ["export_fixtures"]

# Types of the n-gram table; of the token embedding and the output layer; of other matrices.
TYPES = {
    "float32": ("FLOAT32", "FLOAT32", "FLOAT32"),
    "float16": ("FLOAT16", "FLOAT16", "FLOAT16"),
    "int8": ("INT8", "INT8", "INT8"),
    "int8-weights": ("INT8", "INT8", "INT8"),
    "int4": ("INT4", "INT8", "INT4"),
    "int4-block32": ("INT4", "INT8", "INT4"),
}
BITS = {"FLOAT32": 32, "FLOAT16": 16, "INT8": 8, "INT4": 4}
# [13, 30] are the token embedding and the output layer; then the n-gram projection, and each of 2
# blocks' queries, keys and values, attention output, and feed-forward.
MATRICES = {(30, 14): 1, (450, 30): 0, (90, 30): 2, (30, 30): 2, (120, 30): 2, (30, 120): 2}


def stored(found, shape):
    """[(type name, bytes)] of what a file stores of this shape."""
    return sorted(
        (name, content.size) for name, stored_as, _, content in found if stored_as == shape
    )


def expected(name, shape, count=1):
    return [(name, (np.prod(shape) * BITS[name] + 7) // 8)] * count


@pytest.mark.parametrize("suffix", ["tflite", "litertlm"])
@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_each_weight_is_stored_once_and_small(tiny_run, exports, quantization, suffix):
    model = flatbuffer(tiny_run.export / f"model-{quantization}.{suffix}")
    found = constants(model)
    table, embedding, matrix = TYPES[quantization]
    assert stored(found, (211, 14)) == expected(table, (211, 14))
    assert stored(found, (13, 30)) == expected(embedding, (13, 30), 2)
    for shape, count in MATRICES.items():
        assert stored(found, shape) == expected(matrix, shape, count)
    scales = [("INT8", 211)] if quantization.startswith("int") else []
    assert stored(found, (211, 1)) == scales
    # What is left in float32: norms, rotary tables, an empty cache; nothing as large as a weight.
    if quantization != "float32":
        left = {shape for name, shape, *_ in found if name == "FLOAT32"}
        assert max(np.prod(shape) for shape in left - {(1, 5, 97, 6), (97, 2, 3)}) <= 30
    assert ("DEQUANTIZE" in operators(model)) == (quantization in ("float16", "int8-weights"))


def test_every_quantization_has_its_types():
    assert tuple(QUANTIZATIONS) == tuple(TYPES)
    assert DEFAULTS == ("float32", "float16", "int8")


def test_sizes(tiny_run, exports):
    sizes = {row["file"]: row.get("size_bytes") for row in exports}
    for suffix in ("tflite", "litertlm"):
        float32, float16, int8, _, int4, _ = (sizes[f"model-{q}.{suffix}"] for q in QUANTIZATIONS)
        assert float32 > float16 > int8 > int4


def test_scales_are_stored_once(tiny_run, exports):
    """Each signature has tensors of its own for a weight, but not scales."""
    model = flatbuffer(tiny_run.export / "model-int8.tflite")
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    tensors = [graph.Tensors(i) for graph in graphs for i in range(graph.TensorsLength())]
    quantized = [tensor.Quantization() for tensor in tensors if tensor.Quantization()]
    scales = [part.ScaleAsNumpy() for part in quantized if part.ScaleLength() > 1]
    places = {array.__array_interface__["data"][0] for array in scales}
    assert len(places) == len({array.tobytes() for array in scales}) < len(scales) / 3


def test_shapes_are_stored_once(tiny_run, exports):
    model = flatbuffer(tiny_run.export / "model-int8.tflite")
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    tensors = [graph.Tensors(i) for graph in graphs for i in range(graph.TensorsLength())]
    shapes = [tensor.ShapeAsNumpy() for tensor in tensors if tensor.ShapeLength()]
    places = {array.__array_interface__["data"][0] for array in shapes}
    assert len(places) == len({array.tobytes() for array in shapes}) < len(shapes) / 5


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_litert_lm_writes(tiny_run, exports, quantization):
    runtime = LiteRTLM(tiny_run.export / f"model-{quantization}.litertlm")
    text = runtime.continue_greedily("abc gg\nhij ", 20)
    runtime.close()
    assert len(text) == 20 and set(text) <= set(ALPHABET)


def random_model(**changes):
    """A model with an n-gram table whose rows are of very different size."""
    model = GPT(ModelConfig(**{**SHAPE, "num_layers": 1, "max_seq_len": 23, **changes}))
    rng = np.random.default_rng(31)
    embeddings = model.ngram_embedding.table.embeddings
    sizes = 10.0 ** rng.uniform(-3, 0, (embeddings.shape[0], 1))
    embeddings.assign(rng.normal(size=embeddings.shape) * sizes)
    return model


def source_of(model):
    return Source(model, Tokenizer.characters_of(ALPHABET))


def write(source, path, quantization):
    write_tflite(source, path, quantization)
    return constants(flatbuffer(path))


@pytest.mark.exhaustive
def test_the_same_model_gives_the_same_bytes(tmp_path):
    model, path, contents = random_model(), tmp_path / "model.tflite", set()
    for _ in range(3):
        write(source_of(model), path, "int8")
        contents.add(path.read_bytes())
    assert len(contents) == 1


def error_of_file(model, path):
    """The largest logit difference from Keras, in standard deviations of the logits."""
    token_ids = np.random.default_rng(37).integers(0, 12, 23)
    expected = keras.ops.convert_to_numpy(model(token_ids[None]))[0, :, :12]
    engine = tflite_engine(path, model.config)
    logits = np.array([engine.decode(token_id) for token_id in token_ids])[:, :12]
    return np.abs(logits - expected).max() / expected.std()


def test_each_row_of_the_table_has_its_scale(tmp_path):
    source = source_of(model := random_model())
    for quantization, largest in (("int8", 127), ("int4", 7)):
        found = write(source, tmp_path / "model.tflite", quantization)
        assert_each_row_has_its_scale(model, found, largest)
        error = error_of_file(model, tmp_path / "model.tflite")
        assert error < {"int8": 0.1, "int4": 1}[quantization]


def assert_each_row_has_its_scale(model, found, largest):
    product = 1.0
    for name, shape, tensor, content in found:
        if shape in ((211, 14), (211, 1)):
            scale = tensor.Quantization().ScaleAsNumpy()
            assert scale.shape == (1,)  # not 12 bytes for each row
            product = product * integers(name, shape, content) * scale
    table = np.array(model.ngram_embedding.table.embeddings)
    row_maximum = np.abs(table).max(axis=1, keepdims=True)
    step = np.ceil(127 * row_maximum / row_maximum.max()) / 127 * row_maximum.max() / largest
    assert (np.abs(product - table) < 0.51 * step).all()


@pytest.mark.exhaustive
def test_int4_rows_of_odd_width(tmp_path):
    """LiteRT reads them wrong: they are int8."""
    model = random_model(ngram_dim=7)
    found = write(source_of(model), tmp_path / "model.tflite", "int4")
    assert stored(found, (211, 7)) == expected("INT8", (211, 7))
    assert stored(found, (30, 7)) == expected("INT4", (30, 7))
    assert error_of_file(model, tmp_path / "model.tflite") < 0.4


@pytest.mark.exhaustive
def test_blocks_of_32(tmp_path):
    """Where 32 divides the inputs, each block has its scale: one large weight spoils no other."""
    model = random_model(num_heads=4, hidden_dim=64, ngram_dim=32)
    kernel = model.blocks[0].feed_forward.expand.kernel
    weights = np.array(kernel)
    weights[5] = 10 * weights[5]
    kernel.assign(weights)
    found = write(source_of(model), tmp_path / "model.tflite", "int4-block32")
    ((name, shape, tensor, content),) = [entry for entry in found if entry[1] == (256, 64)]
    ((scale_type, _, _, scales),) = [entry for entry in found if entry[1] == (256, 2)]
    assert (name, content.size, scale_type) == ("INT4", 256 * 32, "FLOAT16")
    scales = scales.view("float16").astype("float32")[:, None].repeat(32).reshape(256, 64)
    # Half a step; a scale is rounded to 8 bits, which moves its largest weights a little more.
    assert (np.abs(integers(name, shape, content) * scales - weights.T) < 0.55 * scales).all()
    assert scales[:, :32].mean() > 3 * scales[:, 32:].mean()
    assert error_of_file(model, tmp_path / "model.tflite") < 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("norm", ["rms", "layer"])
def test_tied_embeddings_are_stored_once(tmp_path, norm):
    shape = {"tie_embeddings": True, "position": "learned", "norm": norm, "use_bias": True}
    source = source_of(model := random_model(**shape))
    scale = getattr(model.final_norm, "scale" if norm == "rms" else "gamma")
    scale.assign(np.random.default_rng(53).uniform(0.5, 2, 30))
    for quantization in ("int8-weights", "int4"):
        found = write(source, tmp_path / "model.tflite", quantization)
        assert stored(found, (13, 30)) == expected("INT8", (13, 30))
        assert stored(found, (23, 30)) == expected("INT8", (23, 30))  # positions
        assert error_of_file(model, tmp_path / "model.tflite") < 1


@pytest.mark.parametrize("max_ngram", [pytest.param(1, marks=pytest.mark.exhaustive), 4])
def test_tied_embeddings_of_the_shape_of_the_ngram_table(tmp_path, max_ngram):
    shape = {"ngram_rows": 13, "ngram_dim": 30, "max_ngram": max_ngram}
    model = GPT(ModelConfig(**{**SHAPE, "tie_embeddings": True, **shape}))
    write(source_of(model), tmp_path / "model.tflite", "int8")
    assert error_of_file(model, tmp_path / "model.tflite") < 0.1


@pytest.mark.parametrize("zeros", [[], [3], range(19)], ids=["none", "a row", "all"])
def test_split_scales(zeros):
    rng = np.random.default_rng(43)
    table = (rng.normal(size=(19, 5)) * 10.0 ** rng.uniform(-4, 2, (19, 1))).astype("float32")
    table[list(zeros)] = 0
    rows, scales = embedding_lookup.split_scales(table)
    assert (rows.shape, scales.shape) == ((19, 5), (19, 1))
    assert (rows.dtype, scales.dtype) == ("float32", "float32")
    np.testing.assert_allclose(rows * scales, table, rtol=1e-6)
    assert np.abs(rows).max() < 1 + 1e-5 and (scales > 0).all()
    steps = scales / scales.max() * 127
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)


def test_keras_is_left_as_it_was(tmp_path):
    call, model = keras.layers.Embedding.call, random_model(tie_embeddings=True)
    with pytest.raises(ZeroDivisionError), embedding_lookup.embedding_operators(model):
        assert keras.layers.Embedding.call is not call and "logits" in vars(model)
        raise ZeroDivisionError
    assert keras.layers.Embedding.call is call and "logits" not in vars(model)
