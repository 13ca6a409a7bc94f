"""Takes out of a `.tflite` what it holds several times over, or for nothing."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from neo_keras.generation.artifact import TFLITE_MAGIC

Operator = schema.BuiltinOperator


def deduplicate(content, names):
    """Rewrites the bytes of a flatbuffer; its signatures and their graphs get the order of `names`.

    The signatures share weights already. Here they come to share shapes, lists of tensors and
    weights' scales too (a flatbuffer may refer to a part twice), and tensors lose names, unless
    they are inputs or outputs, and quantizations that say nothing. In int8 that is over 10% of the
    default model. A graph that has no variables comes not to initialize those of the others.
    """
    model = schema.ModelT.InitFromPackedBuf(content)
    codes = [code.builtinCode for code in model.operatorCodes]
    _sort_graphs(model, names)
    for graph in model.subgraphs:
        kinds = [codes[operation.opcodeIndex] for operation in graph.operators]
        if Operator.VAR_HANDLE not in kinds:
            kept = zip(graph.operators, kinds)
            graph.operators = [operation for operation, kind in kept if kind != Operator.CALL_ONCE]
        named = {*graph.inputs, *graph.outputs}
        for i, tensor in enumerate(graph.tensors):
            if i not in named:
                tensor.name = None
            quantization = tensor.quantization
            if quantization and quantization.scale is None and quantization.details is None:
                tensor.quantization = None
    for buffer in model.buffers:
        if buffer.offset:  # the quantizer puts large ones behind the flatbuffer
            buffer.data = np.frombuffer(content, "uint8", buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    builder = _SharingBuilder()
    builder.Finish(model.Pack(builder), TFLITE_MAGIC)
    return builder.Output()


def _sort_graphs(model, names):
    by_name = {signature.signatureKey.decode(): signature for signature in model.signatureDefs}
    model.signatureDefs = [by_name[name] for name in names]
    order = [signature.subgraphIndex for signature in model.signatureDefs]
    order += sorted({*range(len(model.subgraphs))} - {*order})
    model.subgraphs = [model.subgraphs[index] for index in order]
    # Some operators run another graph, as a loop its body.
    operations = (operation for graph in model.subgraphs for operation in graph.operators)
    options = (operation.builtinOptions for operation in operations if operation.builtinOptions)
    for reference in (*model.signatureDefs, *options):
        for name, index in vars(reference).items():
            if name.lower().endswith("subgraphindex"):
                setattr(reference, name, order.index(index))


class _SharingBuilder(flatbuffers.Builder):
    """Stores an array once, however many tables refer to it."""

    def __init__(self):
        super().__init__(1024)
        self._offsets = {}

    def CreateNumpyVector(self, x):
        key = x.dtype, x.tobytes()
        if key not in self._offsets:
            self._offsets[key] = super().CreateNumpyVector(x)
        return self._offsets[key]
