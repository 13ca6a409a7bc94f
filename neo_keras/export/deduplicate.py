"""Takes out of a `.tflite` what it holds several times over, or for nothing."""

import flatbuffers
from ai_edge_litert.tools import flatbuffer_utils

FILE_IDENTIFIER = b"TFL3"


def deduplicate(content, names):
    """Rewrites a flatbuffer with fewer bytes.

    The signatures share weights already. Here they come to share shapes, lists of tensors and
    weights' scales too (a flatbuffer may refer to a part twice), and tensors lose names, unless
    they are inputs or outputs, and quantizations that say nothing. In int8 that is over 10% of the
    default model. A graph that has no variables comes not to initialize those of the others.

    Args:
        content: bytes.
        names: of the signatures, in the order that they and their graphs are to have.

    Returns:
        bytearray.
    """
    model = flatbuffer_utils.read_model_from_bytearray(content)
    _sort_graphs(model, names)
    for graph in model.subgraphs:
        kinds = [flatbuffer_utils.opcode_to_name(model, o.opcodeIndex) for o in graph.operators]
        if "VAR_HANDLE" not in kinds:
            operators = zip(graph.operators, kinds)
            graph.operators = [operator for operator, kind in operators if kind != "CALL_ONCE"]
        named = {*graph.inputs, *graph.outputs}
        for i, tensor in enumerate(graph.tensors):
            if i not in named:
                tensor.name = None
            quantization = tensor.quantization
            if quantization and quantization.scale is None and quantization.details is None:
                tensor.quantization = None
    builder = _SharingBuilder()
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return builder.Output()


def _sort_graphs(model, names):
    by_name = {signature.signatureKey.decode(): signature for signature in model.signatureDefs}
    model.signatureDefs = [by_name[name] for name in names]
    order = [signature.subgraphIndex for signature in model.signatureDefs]
    order += [index for index in range(len(model.subgraphs)) if index not in order]
    model.subgraphs = [model.subgraphs[index] for index in order]
    for signature in model.signatureDefs:
        signature.subgraphIndex = order.index(signature.subgraphIndex)
    # Some operators run another graph, as a loop its body.
    operations = (operation for graph in model.subgraphs for operation in graph.operators)
    for options in (operation.builtinOptions for operation in operations):
        for name, index in vars(options).items() if options is not None else ():
            if name.endswith("SubgraphIndex"):
                setattr(options, name, order.index(index))


class _SharingBuilder(flatbuffers.Builder):
    """Stores a list of numbers once, however many tables refer to it."""

    def __init__(self):
        super().__init__(1024)
        self._offsets, self._shared = {}, False

    def StartVector(self, elemSize, numElems, alignment):
        self._size_before, self._shared = self.Offset(), True
        self._num_bytes = 4 + elemSize * numElems  # the length stands before the elements
        return super().StartVector(elemSize, numElems, alignment)

    def PrependUOffsetTRelative(self, offset):
        self._shared = False  # it refers to a table by its distance: equal bytes mean nothing
        super().PrependUOffsetTRelative(offset)

    def EndVector(self, *args):
        offset = super().EndVector(*args)
        if not self._shared:
            return offset
        self._shared = False  # a string ends here too, but does not start as a vector
        content = bytes(self.Bytes[self.Head() : self.Head() + self._num_bytes])
        if self._offsets.setdefault(content, offset) != offset:
            # Takes it back: it grows from its end to its beginning.
            self.head = len(self.Bytes) - self._size_before
        return self._offsets[content]
