"""The precision of each weight in a `.tflite`."""

import re

from ai_edge_litert.tools import flatbuffer_utils
from litert_quantizer import qtyping, quantizer, recipe

QUANTIZATIONS = ("float32", "float16", "int8", "int8-weights", "int4", "int4-block32")
DEFAULTS = QUANTIZATIONS[:3]
Granularity = qtyping.QuantGranularity
LOOKUP = qtyping.TFLOperationName.EMBEDDING_LOOKUP
OPERATORS = {
    flatbuffer_utils.BuiltinOperator.FULLY_CONNECTED: qtyping.TFLOperationName.FULLY_CONNECTED,
    flatbuffer_utils.BuiltinOperator.EMBEDDING_LOOKUP: LOOKUP,
}


def quantize(path, quantization, config):
    """Quantizes the weights of a float32 file in place; norms and activations stay float32.

    Args:
        path: of a `.tflite` file, traced within `tables.lookup_operators`.
        quantization: one of `QUANTIZATIONS`:
            float16: weights; the arithmetic is float32.
            int8: weights per output channel; the kernels quantize activations while running.
            int8-weights: the same weights, with float32 arithmetic.
            int4: weights per output channel; activations as in int8.
            int4-block32: weights in blocks of 32 inputs, where 32 divides their number.
        config: `ModelConfig`.
    """
    if quantization == "float32":
        return
    _make_names_unique(path)
    # The shape of the token embedding and the output layer, and that of learned positions.
    vocabulary, positions = (
        (n, config.hidden_dim) for n in (config.vocab_size, config.max_seq_len)
    )
    tool = quantizer.Quantizer(str(path))
    if quantization == "float16":
        tool.add_weight_only_config(
            ".*",
            qtyping.TFLOperationName.ALL_SUPPORTED,
            num_bits=16,
            algorithm_key=recipe.AlgorithmName.FLOAT_CASTING,
        )
    else:
        for operator, output, shape in _weights(flatbuffer_utils.read_model(str(path))):
            # The kernel looks rows up without arithmetic: nothing to keep in float32.
            weight_only = quantization == "int8-weights" and operator != LOOKUP
            add = tool.add_weight_only_config if weight_only else tool.add_dynamic_config
            sensitive = shape == vocabulary or (operator == LOOKUP and shape == positions)
            kind = None if sensitive else operator
            num_bits, granularity = _precision(quantization, kind, shape[1])
            add(f"^{re.escape(output)};?$", operator, num_bits, granularity)
    tool.quantize().export_model(str(path), overwrite=True)


def _make_names_unique(path):
    """The quantizer knows tensors by name; TensorFlow 2.15 gives loops' parts the same ones."""
    model, seen = flatbuffer_utils.read_model(str(path)), set()
    for i, graph in enumerate(model.subgraphs):
        for j, tensor in enumerate(graph.tensors):
            if tensor.name in seen:
                tensor.name += f";{i}.{j}".encode()
            seen.add(tensor.name)
    flatbuffer_utils.write_model(model, str(path))


def _precision(quantization, kind, width):
    """(bits, granularity) of a weight; kind is its operator, or None if it is sensitive."""
    num_bits = 4 if quantization.startswith("int4") else 8
    if kind is None:
        # They are few, and lose most: at 8 bits, token embedding and output layer make the default
        # model 0.5% larger, and take two thirds off what int4 adds to its loss. A model may share
        # these two: so one rule. Positions were not measured.
        return 8, Granularity.CHANNELWISE
    if kind == LOOKUP:
        # `tables.split_scales` makes one scale enough. The kernel reads a row of int4 from a whole
        # byte on, and so each second row wrong where the width is odd (LiteRT 2.3).
        return (8 if width % 2 else num_bits), Granularity.TENSORWISE
    if quantization == "int4-block32" and width % 32 == 0:
        return num_bits, Granularity.BLOCKWISE_32
    return num_bits, Granularity.CHANNELWISE


def _weights(model):
    """Yields (operator, name of its output, shape) of each matrix product and table look-up."""
    for graph in model.subgraphs:
        for operation in graph.operators:
            operator = OPERATORS.get(model.operatorCodes[operation.opcodeIndex].builtinCode)
            if operator is not None:
                weight = graph.tensors[operation.inputs[1]]
                output = graph.tensors[operation.outputs[0]]
                yield operator, output.name.decode(), tuple(weight.shape)
