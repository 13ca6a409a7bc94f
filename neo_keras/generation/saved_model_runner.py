"""Runs an exported SavedModel. A graph is a program, and this one may be anybody's."""

import pathlib

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from neo_keras.atomic_files import plainly_named
from neo_keras.errors import InputError
from neo_keras.generation.engine import Runner

# What export.py writes, on every TensorFlow that is pinned somewhere (Erf and RealDiv: 2.15).
# Arithmetic and variables: none of it touches a file or starts anything.
OPERATIONS = """
    AddV2 BatchMatMulV2 BiasAdd BroadcastTo Cast ConcatV2 Const Erf Erfc ExpandDims FloorMod
    GatherV2 GreaterEqual Identity Less LessEqual MatMul Maximum Mean Mul Neg NoOp Pack Pad
    PartitionedCall Pow Prod Range ReadVariableOp RealDiv Relu Reshape Rsqrt SelectV2 Shape Sigmoid
    Softmax Split SplitV Square SquaredDifference StatefulPartitionedCall StopGradient
    StridedSlice Sub Sum Tanh Tile Transpose Unpack XlaDynamicUpdateSlice
""".split()
OBJECTS = {"user_object", "function", "bare_concrete_function", "variable", "constant"}


def saved_model_runner(path):
    """The `Runner` of a SavedModel directory; raises `InputError` as `check_operations` does."""
    check_operations(path)
    try:
        with plainly_named(path) as name:
            loaded = tf.saved_model.load(name)
    # What a damaged one raises depends on where the damage is.
    except Exception as error:
        raise InputError(f"TensorFlow cannot load {path} ({error}): export it again") from None

    def function(name):
        def run(inputs, cache):
            inputs = {name: tf.constant(value) for name, value in inputs.items()}
            # Signatures alone do not keep `loaded` alive.
            return loaded.signatures[name](**inputs, **({} if name == "encode" else cache))

        return run

    _, specs = loaded.signatures["decode"].structured_input_signature
    specs = {name: spec for name, spec in specs.items() if name.startswith("kv_cache")}
    cache = {name: tf.zeros((1, *spec.shape[1:]), spec.dtype) for name, spec in specs.items()}
    return Runner({name: function(name) for name in loaded.signatures}, cache)


def check_operations(path):
    """Raises `InputError` where a SavedModel is damaged, or can do what no export of ours does."""
    try:
        content = (pathlib.Path(path) / "saved_model.pb").read_bytes()
        (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
        foreign = sorted(_operations_of(graph).difference(OPERATIONS))
    except Exception as error:  # protobuf has an exception for each of its implementations
        raise InputError(f"TensorFlow cannot load {path} ({error}): export it again") from None
    if foreign:
        names = ", ".join(foreign[:3])
        raise InputError(f"{path} is no export of ours: it would run {names}; export it again")


def _operations_of(graph):
    """Names of all operations that run when the graph is loaded, or one of its functions called.

    Functions that no object has, and that nothing calls, save and restore: TensorFlow goes without.
    """
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    operations, names, objects = set(), set(), graph.object_graph_def
    for node in objects.nodes:
        if node.WhichOneof("kind") not in OBJECTS or node.saveable_objects or node.registered_saver:
            raise ValueError(f"an object of it is a {node.WhichOneof('kind')}")
    waiting = {*objects.concrete_functions}
    while waiting:
        names |= waiting
        nodes = [node for name in waiting for node in functions[name].node_def]
        operations |= {node.op for node in nodes}
        waiting = {name for node in nodes for name in _functions_in(node)}
        waiting = (waiting | operations & functions.keys()) - names
    if not names:  # of TensorFlow 1: all of the graph would run
        raise ValueError("it has no functions")
    return operations - functions.keys()


def _functions_in(node):
    """Names of the functions that a node can call."""
    for value in node.attr.values():
        yield from [value.func.name] if value.func.name else []
        yield from (function.name for function in value.list.func)
