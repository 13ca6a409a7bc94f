"""What a `.tflite` says of its signatures; and a view of fewer of them."""

from ai_edge_litert import schema_py_generated as schema

from neo_keras.errors import InputError

IN_PLACE = "{}_in_place"  # a signature whose cache is the caller's, in memory that grows
DECODER_SIGNATURES = ("reset", "prefill", "decode", "sample", "generate")  # cache: the file's
ENCODER_DECODER_SIGNATURES = ("encode", "decode", "reset")  # cache: the file's
SUBGRAPHS, SIGNATURES = 8, 18  # where the schema's table `Model` keeps these two vectors


def read_signatures(content):
    """Of a file's bytes: {signature: {"inputs": {tensor: shape}, "outputs": {tensor: shape}}}.

    In the order of the file; a shape is a list of int.
    """
    model = schema.Model.GetRootAs(content, 0)
    signatures = {}
    for i in range(model.SignatureDefsLength()):
        definition = schema.SignatureDefT.InitFromObj(model.SignatureDefs(i))
        graph = model.Subgraphs(definition.subgraphIndex)
        signatures[definition.signatureKey.decode()] = {
            "inputs": _shapes(graph, definition.inputs),
            "outputs": _shapes(graph, definition.outputs),
        }
    return signatures


def _shapes(graph, tensor_maps):
    tensors = {named.name.decode(): graph.Tensors(named.tensorIndex) for named in tensor_maps or ()}
    return {name: [x.Shape(i) for i in range(x.ShapeLength())] for name, x in tensors.items()}


def signature_names(config):
    """The signatures of a `.tflite` of a model, in their order."""
    if config.architecture == "encoder-decoder":
        return ENCODER_DECODER_SIGNATURES
    return (*map(IN_PLACE.format, in_place_functions(config)), *DECODER_SIGNATURES)


def in_place_functions(config):
    """What has an in-place signature, of a decoder-only model."""
    # First what may run with a single slot: LiteRT's Interpreter tries the first one.
    return ("decode", "prefill", "verify")[: 3 if config.num_speculative_tokens else 2]


def check_signatures(signatures, path, config):
    """Raises `InputError` unless what `read_signatures` returns of a file is what a model has."""
    if any(name.startswith("sample_") for name in signatures):
        raise InputError(
            f"{path} is the model of a web page: give the .tflite that export.py wrote beside it"
        )
    expected = signature_names(config)
    if tuple(signatures) != expected:
        raise InputError(
            f"{path} must have the signatures {', '.join(expected)}, got "
            f"{', '.join(signatures) or 'none'}: export it with export.py"
        )
    whole_text = "encode" if config.architecture == "encoder-decoder" else "generate"
    max_seq_len = signatures[whole_text]["inputs"]["tokens"][1]
    vocab_size = signatures["decode"]["outputs"]["logits"][2]
    if (max_seq_len, vocab_size) != (config.max_seq_len, config.vocab_size):
        raise InputError(
            f"{path} contradicts itself: its config.json says max_seq_len {config.max_seq_len} and "
            f"vocab_size {config.vocab_size}, its signatures say {max_seq_len} and {vocab_size}: "
            "export it again"
        )


def keep_first_signatures(content, count):
    """A file's bytes, in which only the first `count` signatures and graphs are seen.

    LiteRT packs all weights anew for each signature that it sees.
    """
    table, parts, place = schema.Model.GetRootAs(content, 0)._tab, [], 0
    for length in sorted(table.Vector(table.Offset(v)) - 4 for v in (SUBGRAPHS, SIGNATURES)):
        parts += [content[place:length], count.to_bytes(4, "little")]
        place = length + 4
    return b"".join([*parts, content[place:]])
