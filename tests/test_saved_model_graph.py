"""A SavedModel is a program: what ours would not do is refused before any of it runs."""

import pytest
from tensorflow.core.protobuf import saved_model_pb2

from neo_keras.errors import InputError
from neo_keras.generation.saved_model_runner import check_operations


def add_function(graph, name, *operations):
    """Of an operation, "call:NAME" calls a function as `tf.function` does."""
    function = graph.graph_def.library.function.add()
    function.signature.name = name
    for operation in operations:
        operation, _, called = operation.partition(":")
        node = function.node_def.add(op="PartitionedCall" if called else operation)
        if called:
            node.attr["f"].func.name = called


@pytest.fixture
def graph():
    """A model that adds, with what saves it, which is in functions that no object has."""
    graph = saved_model_pb2.SavedModel().meta_graphs.add()
    add_function(graph, "decode", "call:inner", "Identity")
    add_function(graph, "inner", "ReadVariableOp", "AddV2")
    add_function(graph, "__inference__traced_save_1", "SaveV2", "MergeV2Checkpoints")
    graph.object_graph_def.concrete_functions["decode"].SetInParent()
    graph.object_graph_def.nodes.add().user_object.SetInParent()
    graph.object_graph_def.nodes.add().bare_concrete_function.concrete_function_name = "decode"
    return graph


@pytest.fixture
def check(graph, tmp_path):
    def check():
        saved_model = saved_model_pb2.SavedModel()
        saved_model.meta_graphs.add().CopyFrom(graph)
        (tmp_path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
        check_operations(tmp_path)

    return check


def test_arithmetic(check):
    check()


@pytest.mark.parametrize("operation", ["ReadFile", "WriteFile", "SaveV2", "PyFunc", "PrintV2"])
@pytest.mark.parametrize("function", [0, 1])
def test_what_touches_files(graph, check, operation, function):
    graph.graph_def.library.function[function].node_def.add(op=operation)
    with pytest.raises(InputError, match=f"would run {operation}; export it again"):
        check()


@pytest.mark.parametrize("call", ["attribute", "list", "operation"])
def test_however_a_function_is_called(graph, check, call):
    node = graph.graph_def.library.function[1].node_def.add(op="PartitionedCall")
    if call == "attribute":
        node.attr["then_branch"].func.name = "__inference__traced_save_1"
    elif call == "list":
        node.attr["branches"].list.func.add(name="__inference__traced_save_1")
    else:
        node.op = "__inference__traced_save_1"
    with pytest.raises(InputError, match="would run MergeV2Checkpoints, SaveV2;"):
        check()


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.object_graph_def.nodes[0].resource.SetInParent(),
        lambda graph: graph.object_graph_def.nodes[0].asset.SetInParent(),
        lambda graph: graph.object_graph_def.nodes[0].saveable_objects["x"].SetInParent(),
        lambda graph: setattr(graph.object_graph_def.nodes[0], "registered_saver", "x"),
        lambda graph: graph.ClearField("object_graph_def"),  # TensorFlow 1 would run all
        lambda graph: graph.graph_def.ClearField("library"),
    ],
)
def test_objects_that_run_by_themselves(graph, check, change):
    change(graph)
    with pytest.raises(InputError, match="cannot load"):
        check()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100])
def test_no_graph(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(InputError, match="cannot load"):
        check_operations(tmp_path)
