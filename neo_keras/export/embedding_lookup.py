"""Embedding tables in exported files: looked up by an operator whose table can be quantized."""

import contextlib
import copy
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from keras import ops

Operator = schema.BuiltinOperator


LOWEST = -3.4e38  # of float32, nearly


@contextlib.contextmanager
def embedding_operators(model):
    """Within it, the embedding layers of a model convert to EMBEDDING_LOOKUP.

    They would become GATHER, whose table the quantizer leaves in float32. And an output head that
    is tied to the token embedding converts to the same table: else the converter multiplies the
    head's weights by the scale of the final norm, and there are two tables.
    """

    def call(layer, token_ids):
        x = _look_up(ops.convert_to_tensor(layer.embeddings), ops.reshape(token_ids, (-1,)))
        return ops.reshape(x, (*token_ids.shape, layer.output_dim))

    def logits(x):
        return type(model).logits(model, ops.maximum(x, LOWEST))  # which stands between the two

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(keras.layers.Embedding, "call", call))
        if model.config.tie_embeddings:
            stack.enter_context(mock.patch.object(model, "logits", logits))
        yield


# By this name the converter knows what becomes EMBEDDING_LOOKUP.
@tf.function(experimental_implements="embedding_matmul", autograph=False)
def _look_up(table, row_ids):
    return tf.gather(table, row_ids)


def scale_rows(model, table_shape):
    """Makes a model of `flatbuffer_utils` store its tables of a shape by `split_scales`.

    So one scale for all of a table quantizes each row as well as a scale of its own would, which
    costs 12 bytes a row and signature.
    """
    multiply, scale_buffers = _operator(model, Operator.MUL), {}
    lookup = _operator(model, Operator.EMBEDDING_LOOKUP)
    for graph in model.subgraphs:
        for operation in list(graph.operators):
            tensors = [graph.tensors[i] for i in operation.inputs]
            if operation.opcodeIndex == lookup and tuple(tensors[1].shape) == table_shape:
                buffer = tensors[1].buffer
                if buffer not in scale_buffers:
                    scale_buffers[buffer] = _split_buffer(model, buffer, table_shape)
                _scale_output(graph, operation, multiply, scale_buffers[buffer])


def _operator(model, code):
    """The index of an operator, which is added if the model does not have it."""
    codes = [operator.builtinCode for operator in model.operatorCodes]
    if code not in codes:
        operator = schema.OperatorCodeT()
        operator.builtinCode = operator.deprecatedBuiltinCode = code
        operator.version = 1
        model.operatorCodes.append(operator)
        codes.append(code)
    return codes.index(code)


def _split_buffer(model, buffer, shape):
    """Replaces a table by its rows; returns the index of a new buffer, with their scales."""
    table = np.frombuffer(model.buffers[buffer].data.tobytes(), "float32").reshape(shape)
    rows, scales = split_scales(table)
    model.buffers[buffer].data = np.frombuffer(rows.tobytes(), "uint8")
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = np.frombuffer(scales.tobytes(), "uint8")
    return len(model.buffers) - 1


def _scale_output(graph, operation, multiply, scale_buffer):
    """Multiplies what a look-up gives by what the same look-up of the scales gives."""

    def add_tensor(like, suffix, width, buffer=0):
        tensor = copy.copy(graph.tensors[like])
        tensor.name, tensor.buffer = tensor.name + suffix, buffer
        tensor.shape = np.array([tensor.shape[0], width], "int32")
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    (row_ids, table), (output,) = operation.inputs, operation.outputs
    scales = add_tensor(table, b"_scales", 1, scale_buffer)
    rows = add_tensor(output, b"_rows", graph.tensors[output].shape[1])
    factors = add_tensor(output, b"_factors", 1)
    look_up, product = copy.copy(operation), schema.OperatorT()
    operation.outputs = [rows]
    look_up.inputs, look_up.outputs = [row_ids, scales], [factors]
    product.opcodeIndex, product.inputs, product.outputs = multiply, [rows, factors], [output]
    product.builtinOptionsType = schema.BuiltinOptions.MulOptions
    product.builtinOptions = schema.MulOptionsT()
    place = graph.operators.index(operation) + 1
    graph.operators[place:place] = [look_up, product]


def split_scales(table):
    """Writes a table as (rows between -1 and 1, a scale for each), whose product it is.

    All float32: [num_rows, width], of which the scales are [num_rows, 1]. Scales are whole
    multiples of a 127th of the largest: an int8 holds them exactly.
    """
    largest = np.abs(table).max(axis=1, keepdims=True).astype("float64")
    step = (largest.max() or 1.0) / 127  # the largest int8
    # Rounded up, but not where a rounding error alone asks for it.
    scales = (np.maximum(np.ceil(largest / step - 1e-6), 1) * step).astype("float32")
    return table / scales, scales
