"""Quantizations: how a `.tflite` stores its weights. A new one is a row of a table."""

import dataclasses
import re

OPERATORS = ("FULLY_CONNECTED", LOOKUP := "EMBEDDING_LOOKUP")  # those with weights, for LiteRT


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How weights are stored, and how far a file may be off.

    Norms and activations are float32 in the file.

    Attributes:
        bits: of a weight.
        max_loss_rise: what is allowed, as a share. A conversion that went wrong about doubles the
            loss. The default model's rises by 0.02% in int8 and 0.4% in int4: others may mind more.
        max_logit_difference: what is allowed where logits are at most `parity.USUAL_LOGIT`.
        granularity: of integers, what shares a scale: the inputs of an output, "CHANNELWISE", or
            of these blocks of 32, "BLOCKWISE_32", where 32 divides their number.
        float_arithmetic: of integers, they are expanded to floats; else kernels quantize the
            activations while running.
        is_default: written unless others are asked for.
    """

    bits: int
    max_loss_rise: float
    max_logit_difference: float = float("inf")
    granularity: str = "CHANNELWISE"
    float_arithmetic: bool = False
    is_default: bool = False

    @property
    def has_scales(self):
        return self.bits <= 8


QUANTIZATIONS = {
    "float32": Quantization(32, 0.01, max_logit_difference=1e-3, is_default=True),
    "float16": Quantization(16, 0.01, max_logit_difference=1e-1, is_default=True),
    "int8": Quantization(8, 0.02, is_default=True),
    "int8-weights": Quantization(8, 0.02, float_arithmetic=True),
    "int4": Quantization(4, 0.1),
    "int4-block32": Quantization(4, 0.1, granularity="BLOCKWISE_32"),
}
DEFAULTS = tuple(name for name, row in QUANTIZATIONS.items() if row.is_default)


def quantize(path, name, config):
    """Quantizes the weights of a float32 file in place.

    Args:
        path: of a `.tflite` file, traced within `embedding_lookup.lookup_operators`.
        name: one of `QUANTIZATIONS`.
        config: `ModelConfig`.
    """
    # Not above: they take too long for a --help that lists the table.
    from ai_edge_litert.tools import flatbuffer_utils
    from litert_quantizer import qtyping, quantizer, recipe

    quantization = QUANTIZATIONS[name]
    if quantization.bits == 32:
        return
    _make_names_unique(path, flatbuffer_utils)
    tool = quantizer.Quantizer(str(path))
    if not quantization.has_scales:
        tool.add_weight_only_config(
            ".*",
            qtyping.TFLOperationName.ALL_SUPPORTED,
            num_bits=quantization.bits,
            algorithm_key=recipe.AlgorithmName.FLOAT_CASTING,
        )
    else:
        for operator, output, shape in _weights(path, flatbuffer_utils):
            # The kernel looks rows up without arithmetic: nothing to keep in float32.
            weight_only = quantization.float_arithmetic and operator != LOOKUP
            add = tool.add_weight_only_config if weight_only else tool.add_dynamic_config
            bits, granularity = _precision(quantization, operator, shape, config)
            granularity = qtyping.QuantGranularity[granularity]
            add(f"^{re.escape(output)};?$", qtyping.TFLOperationName[operator], bits, granularity)
    tool.quantize().export_model(str(path), overwrite=True)


def _precision(quantization, operator, shape, config):
    """(bits, granularity) of a weight."""
    # The shape of the token embedding and the output layer, and that of learned positions.
    vocabulary, positions = (
        (n, config.hidden_dim) for n in (config.vocab_size, config.max_seq_len)
    )
    if shape == vocabulary or (operator == LOOKUP and shape == positions):
        # They are few, and lose most: at 8 bits, token embedding and output layer make the default
        # model 0.5% larger, and take two thirds off what int4 adds to its loss. A model may share
        # these two: so one rule. Positions were not measured.
        return 8, "CHANNELWISE"
    if operator == LOOKUP:
        # `embedding_lookup.split_scales` makes one scale enough. The kernel reads a row of int4
        # from a whole byte on, and so each second row wrong where the width is odd (LiteRT 2.3).
        return (8 if shape[1] % 2 else quantization.bits), "TENSORWISE"
    _, _, block = quantization.granularity.partition("BLOCKWISE_")
    fits = shape[1] % int(block or 1) == 0
    return quantization.bits, quantization.granularity if fits else "CHANNELWISE"


def _make_names_unique(path, flatbuffer_utils):
    """The quantizer knows tensors by name; TensorFlow 2.15 gives loops' parts the same ones."""
    model, seen = flatbuffer_utils.read_model(str(path)), set()
    for i, graph in enumerate(model.subgraphs):
        for j, tensor in enumerate(graph.tensors):
            if tensor.name in seen:
                tensor.name += f";{i}.{j}".encode()
            seen.add(tensor.name)
    flatbuffer_utils.write_model(model, str(path))


def _weights(path, flatbuffer_utils):
    """Yields (operator, name of its output, shape) of each matrix product and table look-up."""
    model = flatbuffer_utils.read_model(str(path))
    names = {getattr(flatbuffer_utils.BuiltinOperator, name): name for name in OPERATORS}
    for graph in model.subgraphs:
        for operation in graph.operators:
            operator = names.get(model.operatorCodes[operation.opcodeIndex].builtinCode)
            if operator is not None:
                weight = graph.tensors[operation.inputs[1]]
                output = graph.tensors[operation.outputs[0]]
                yield operator, output.name.decode(), tuple(weight.shape)
