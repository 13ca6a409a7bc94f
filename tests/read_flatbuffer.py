"""What an exported file holds, read without a runtime."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema


def flatbuffer(path):
    """The parsed TFLite model of a `.tflite` or a `.litertlm` file."""
    content = path.read_bytes()
    assert content.count(b"TFL3") == 1
    return schema.Model.GetRootAs(content[content.index(b"TFL3") - 4 :], 0)


def operators(model):
    """Names of builtin operators; "CUSTOM" and what it is for all others, Select TF ones too."""
    builtin = {code: name for name, code in vars(schema.BuiltinOperator).items()}
    names = set()
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        name = builtin[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        names.add(name if code.CustomCode() is None else f"{name} {code.CustomCode().decode()}")
    return names


def tensor_types(model):
    names = {code: name for name, code in vars(schema.TensorType).items()}
    graphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
    return {
        names[graph.Tensors(i).Type()] for graph in graphs for i in range(graph.TensorsLength())
    }


def constants(model):
    """What the file stores, whichever signatures use it.

    Returns:
        list of (type name, shape, tensor, uint8 array), one for each buffer.
    """
    type_names = {code: name for name, code in vars(schema.TensorType).items()}
    found = {}
    for graph in (model.Subgraphs(i) for i in range(model.SubgraphsLength())):
        for tensor in (graph.Tensors(i) for i in range(graph.TensorsLength())):
            buffer = model.Buffers(tensor.Buffer())
            if buffer.DataLength():
                shape = tuple(tensor.ShapeAsNumpy().tolist())
                entry = type_names[tensor.Type()], shape, tensor, buffer.DataAsNumpy()
                found[tensor.Buffer()] = entry
    return list(found.values())


def integers(type_name, shape, content):
    """The values of an INT8 or INT4 buffer; two int4 lie in a byte, the lower bits first."""
    values = content.view("int8")
    if type_name == "INT4":
        values = np.stack([values << 4 >> 4, values >> 4], axis=-1).ravel()[: np.prod(shape)]
    return values.reshape(shape)
