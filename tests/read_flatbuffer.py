"""What an exported file holds, read without a runtime."""

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
