"""A `.tflite` file: all that a phone needs, for LiteRT."""

import collections
import contextlib
import io
import re
import tempfile

import tensorflow as tf
from ai_edge_litert.tools import flatbuffer_utils
from litert_quantizer import qtyping, quantizer, recipe

from neo_keras.environment import runs_compiled_model
from neo_keras.export import parity
from neo_keras.export.deduplicate import deduplicate
from neo_keras.export.embedding_lookup import embedding_operators, scale_rows
from neo_keras.export.quantization import QUANTIZATIONS
from neo_keras.export.signatures import tflite_signatures, write_signatures
from neo_keras.generation import artifact
from neo_keras.generation.load import tflite_engine
from neo_keras.native_logs import native_log_hidden

OPERATORS = ("FULLY_CONNECTED", LOOKUP := "EMBEDDING_LOOKUP")  # those with weights


def write(source, path, quantization):
    """Writes a file and measures it in both of LiteRT's runtimes; see `formats.Format`."""
    write_tflite(source, path, quantization)
    config, _ = artifact.unpack_tflite(path)
    measurement = parity.measure(tflite_engine(path, config, 2, in_place=False), source.reference)
    if source.model.has_encoder or not runs_compiled_model():
        return measurement
    parity.check(measurement, source.reference, quantization, path.name)
    engine = tflite_engine(path, config, num_threads=2)
    if engine.num_speculative_tokens:
        speculative = parity.measure(engine, source.reference, speculative=True)
        parity.check(speculative, source.reference, quantization, path.name)
    return parity.measure(engine, source.reference)


def write_tflite(source, path, quantization, make_signatures=tflite_signatures):
    """As `convert`, with the configuration and the `Tokenizer`."""
    convert(source, path, quantization, make_signatures)
    artifact.pack_tflite(path, source.model.config, quantization, source.tokenizer)


def convert(source, path, quantization, make_signatures):
    """Writes a `Source` as a flatbuffer of builtin operators only."""
    # The converter and the quantizer say on both streams what they do.
    with native_log_hidden(), contextlib.redirect_stdout(io.StringIO()):
        flatbuffer, names = source.once(
            make_signatures, lambda: _float32_flatbuffer(source, make_signatures)
        )
        flatbuffer = _quantize(flatbuffer, QUANTIZATIONS[quantization], source.model.config)
    path.write_bytes(deduplicate(flatbuffer, names))


def _float32_flatbuffer(source, make_signatures):
    """(bytes, names of the signatures)."""
    with tempfile.TemporaryDirectory() as directory, embedding_operators(source.model):
        names = write_signatures(source, directory, make_signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=names)
        converter.experimental_enable_resource_variables = True
        converter.exclude_conversion_metadata = True  # it differs each time
        content = flatbuffer_utils.read_model_from_bytearray(converter.convert())
    _make_names_unique(content)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(content)), names


def _quantize(flatbuffer, quantization, config):
    if quantization.bits == 32:
        return flatbuffer
    if quantization.bits == 16:
        tool = quantizer.Quantizer(flatbuffer)
        operators, casting = qtyping.TFLOperationName, recipe.AlgorithmName.FLOAT_CASTING
        tool.add_weight_only_config(".*", operators.ALL_SUPPORTED, 16, algorithm_key=casting)
        return tool.quantize().quantized_model
    model = flatbuffer_utils.read_model_from_bytearray(flatbuffer)
    table_shape = (config.ngram_rows, config.ngram_dim)
    # The output layer may share a table of that other shape, and would be scaled with it.
    if config.max_ngram > 1 and table_shape != (config.vocab_size, config.hidden_dim):
        scale_rows(model, table_shape)
    tool = quantizer.Quantizer(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    outputs = collections.defaultdict(list)  # by how their operators' weights are stored
    for graph, operation in ((g, operation) for g in model.subgraphs for operation in g.operators):
        operator = flatbuffer_utils.opcode_to_name(model, operation.opcodeIndex)
        if operator in OPERATORS:
            shape = graph.tensors[operation.inputs[1]].shape
            settings = operator, *_precision(quantization, operator, shape, config)
            outputs[settings].append(graph.tensors[operation.outputs[0]].name.decode())
    for (operator, bits, granularity), names in outputs.items():
        # The kernel looks rows up without arithmetic: nothing to keep in float32.
        weight_only = quantization.float_arithmetic and operator != LOOKUP
        add = tool.add_weight_only_config if weight_only else tool.add_dynamic_config
        # One pattern for all: the quantizer tries each pattern on each operator.
        pattern = f"^(?:{'|'.join(map(re.escape, names))});?$"
        granularity = qtyping.QuantGranularity[granularity]
        add(pattern, qtyping.TFLOperationName[operator], bits, granularity)
    return tool.quantize().quantized_model


def _make_names_unique(model):
    """The quantizer knows tensors by name; TensorFlow 2.15 gives loops' parts the same ones."""
    seen = set()
    for i, graph in enumerate(model.subgraphs):
        for j, tensor in enumerate(graph.tensors):
            if tensor.name in seen:
                tensor.name += f";{i}.{j}".encode()
            seen.add(tensor.name)


def _precision(quantization, operator, shape, config):
    """(bits, granularity) of a weight."""
    num_rows, width = shape
    # Of the token embedding and the output layer; and of learned positions.
    few = (config.vocab_size, config.max_seq_len if operator == LOOKUP else None)
    if num_rows in few and width == config.hidden_dim:
        # They are few, and lose most: at 8 bits, token embedding and output layer make the default
        # model 0.5% larger, and take two thirds off what int4 adds to its loss. A model may share
        # these two: so one rule. Positions were not measured.
        return 8, "CHANNELWISE"
    if operator == LOOKUP:
        # `embedding_lookup.split_scales` makes one scale enough. The kernel reads a row of int4
        # from a whole byte on, and so each second row wrong where the width is odd (LiteRT 2.3).
        return (8 if width % 2 else quantization.bits), "TENSORWISE"
    if quantization.block_size and width % quantization.block_size == 0:
        return quantization.bits, f"BLOCKWISE_{quantization.block_size}"
    return quantization.bits, "CHANNELWISE"
