"""What a `.tflite` says of its signatures; and a view of fewer of them."""

import contextlib

from ai_edge_litert import schema_py_generated as schema

from neo_keras.errors import InputError
from neo_keras.generation.engine import STATEFUL_SIGNATURES, in_place_signatures

SUBGRAPHS, SIGNATURES = 8, 18  # where the schema's table `Model` keeps these two vectors


@contextlib.contextmanager
def loading(path):
    """Within it, whatever a damaged file raises becomes an `InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # what it is depends on where the damage is
        raise InputError(f"LiteRT cannot load {path} ({error}): export it again") from None


def read_signatures(content):
    """Reads names and shapes.

    Args:
        content: bytes of the file.

    Returns:
        dict, in the order of the file: the name of a signature to {"inputs": ..., "outputs": ...},
        each a dict: the name of a tensor to its shape, a list of int.
    """
    model = schema.Model.GetRootAs(content, 0)
    definitions = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
    signatures = {}
    for definition in definitions:
        graph = model.Subgraphs(definition.SubgraphIndex())
        signatures[definition.SignatureKey().decode()] = {
            "inputs": _shapes(graph, definition.Inputs, definition.InputsLength()),
            "outputs": _shapes(graph, definition.Outputs, definition.OutputsLength()),
        }
    return signatures


def _shapes(graph, get, length):
    shapes = {}
    for named in (get(i) for i in range(length)):
        tensor = graph.Tensors(named.TensorIndex())
        shapes[named.Name().decode()] = [tensor.Shape(i) for i in range(tensor.ShapeLength())]
    return shapes


def check_names(signatures, expected, path):
    """Raises `InputError` unless the signatures, as read, have these names in this order."""
    if any(name.startswith("sample_") for name in signatures):
        raise InputError(
            f"{path} is the model of a web page: give the .tflite that export.py wrote beside it"
        )
    if tuple(signatures) != expected:
        raise InputError(
            f"{path} must have the signatures {', '.join(expected)}, got "
            f"{', '.join(signatures) or 'none'}: export it with export.py"
        )


def check_decoder(signatures, path, model_config):
    """Raises `InputError` unless the signatures, as read, are those of this decoder-only model."""
    check_names(signatures, (*in_place_signatures(model_config), *STATEFUL_SIGNATURES), path)
    sizes = {
        "max_seq_len": signatures["generate"]["inputs"]["tokens"][1],
        "vocab_size": signatures["decode"]["outputs"]["logits"][2],
    }
    check_sizes(sizes, path, model_config)


def check_sizes(sizes, path, model_config):
    """Raises `InputError` unless sizes of a file, by name, are what its `ModelConfig` says."""
    for name, size in sizes.items():
        if size != getattr(model_config, name):
            raise InputError(
                f"{path} contradicts itself: its config.json says {name} "
                f"{getattr(model_config, name)}, its signatures say {size}: export it again"
            )


def keep_first_signatures(content, count):
    """Hides the other signatures: LiteRT packs all weights anew for each one that it sees.

    Args:
        content: bytes of a file whose first graphs are those of its first signatures.
        count: how many signatures to keep. They run no other graphs.

    Returns:
        bytes.
    """
    content = bytearray(content)
    table = schema.Model.GetRootAs(content, 0)._tab
    for vector in (SUBGRAPHS, SIGNATURES):
        length = table.Vector(table.Offset(vector)) - 4
        content[length : length + 4] = count.to_bytes(4, "little")
    return bytes(content)
