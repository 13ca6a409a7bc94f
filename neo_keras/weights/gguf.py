"""A GGUF file, of llama.cpp and ollama."""

import json

import numpy as np

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError, shortened
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.weights.conversion import has_head, tensors_of
from neo_keras.weights.gguf_tokenizer import gguf_fields_from, tokenizer_from_gguf
from neo_keras.weights.layouts import ARCHITECTURES, PLAIN

# Keys, after the name of the architecture, and our fields.
KEYS = {
    "context_length": "max_seq_len", "embedding_length": "hidden_dim", "block_count": "num_layers",
    "feed_forward_length": "feed_forward_dim", "attention.head_count": "num_heads",
    "attention.head_count_kv": "num_kv_heads", "attention.key_length": "head_dim",
    "attention.layer_norm_epsilon": "norm_epsilon",
    "attention.layer_norm_rms_epsilon": "norm_epsilon", "rope.freq_base": "rope_base",
    "rope.dimension_count": "rotary_dim", "use_parallel_residual": "parallel_residual",
}  # fmt: skip
REQUIRED = ("context_length", "embedding_length", "block_count", "feed_forward_length",
            "attention.head_count")  # fmt: skip
HARMLESS = {"vocab_size", "attention.value_length", "rope.scaling.type", "tensor_data_layout"}


class GgufFile:
    """The tensors of a file, each read when it is asked for, and its fields: a dict."""

    def __init__(self, path):
        import gguf

        try:
            reader = gguf.GGUFReader(path)
            self.fields = {name: field.contents() for name, field in reader.fields.items()}
        except Exception as error:  # what a damaged file raises depends on where the damage is
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"{path} is no GGUF file, or damaged ({reason}): copy it again"
            ) from None
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.names = set(self._tensors)
        self.paths = [path]

    def shape(self, name):
        return tuple(int(n) for n in reversed(self._tensors[name].shape))

    def read(self, name):
        import gguf

        tensor = self._tensors[name]
        try:
            array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            raise InputError(
                f"{name} is stored as {tensor.tensor_type.name}, which the package gguf cannot "
                "read: convert the model to Q8_0"
            ) from None
        return np.asarray(array, "float32").reshape(self.shape(name))


def open_gguf(path):
    """(tensors, `Architecture`, `ModelConfig`, `Tokenizer`) of a file; or `InputError`."""
    file = GgufFile(path)
    name = file.fields.get("general.architecture")
    architectures = {a.gguf: a for a in ARCHITECTURES.values() if a.gguf}
    if not isinstance(name, str) or name not in architectures:
        raise InputError(
            f"{path} has the architecture {shortened(name)}, expected one of "
            f"{', '.join(architectures)}: convert another model"
        )
    architecture = architectures[name]
    text, config = tokenizer_from_gguf(file.fields)
    tokenizer = Tokenizer.from_json(text, path, json.dumps(config))
    return file, architecture, _read_config(file, name, architecture), tokenizer


def _read_config(file, name, architecture):
    given = {key.removeprefix(f"{name}."): value for key, value in file.fields.items()
             if key.startswith(f"{name}.")}  # fmt: skip
    for key in REQUIRED:
        if key not in given:
            raise InputError(f"the file has no {name}.{key}: convert the model anew")
    if given.get("rope.scaling.type", "none") != "none":
        raise _not_computed(f"{name}.rope.scaling.type", given["rope.scaling.type"])
    for key in sorted(given.keys() - KEYS.keys() - HARMLESS):
        if given[key]:  # it may be a number that means "none"
            raise _not_computed(f"{name}.{key}", given[key])
    for key, expected in architecture.gguf_arrays.items():
        if _shortest(file.fields.get(key)) != [_shortest(expected)] * given["block_count"]:
            raise _not_computed(key, file.fields.get(key))
    fields = {**PLAIN, **{KEYS[key]: _shortest(given[key]) for key in given.keys() & KEYS.keys()}}
    fields |= {**architecture.fixed, "activation": architecture.gguf_activation}
    if fields["position"] != "rope":
        fields.pop("rotary_dim", None)
        fields.pop("rope_base", None)
    if "token_embd.weight" not in file.names:
        raise InputError("the file has no tensor token_embd.weight: copy it again")
    fields["vocab_size"] = file.shape("token_embd.weight")[0]
    fields["tie_embeddings"] = not has_head(file, architecture, "gguf")
    return ModelConfig(**fields)


def _shortest(value):
    """Of a float32, the number with the fewest digits that it stands for: 1e-5, say."""
    if isinstance(value, list):
        return [_shortest(item) for item in value]
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _not_computed(key, value):
    return InputError(
        f"the file has {key} = {shortened(value)}, which neo_keras does not compute: convert "
        "another model"
    )


def write_gguf(path, name, model, tokenizer, stored_as="F32"):
    """Writes a `GPT` that `as_target` returned, as an architecture of `ARCHITECTURES`.

    Args:
        name: of the architecture.
        stored_as: the type of the matrices' numbers, such as "Q8_0". A matrix whose rows are not
            whole blocks of it is stored as "F16".
    """
    import gguf

    architecture = ARCHITECTURES[name]
    writer = gguf.GGUFWriter(path, architecture.gguf)
    for key, value in {
        **_fields(architecture, model.config),
        **gguf_fields_from(tokenizer, model.config.vocab_size),
    }.items():
        _add(writer, key, value)
    file_type = "ALL_F32" if stored_as == "F32" else f"MOSTLY_{stored_as}"
    writer.add_file_type(gguf.LlamaFileType[file_type])
    for tensor_name, array in tensors_of(model, architecture, "gguf"):
        # As llama.cpp's own tool: vectors and learned positions stay as they are.
        is_matrix = array.ndim > 1 and tensor_name != "position_embd.weight"
        kind = gguf.GGMLQuantizationType[stored_as if is_matrix else "F32"]
        if array.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0]:
            kind = gguf.GGMLQuantizationType.F16
        writer.add_tensor(tensor_name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _fields(architecture, config):
    """What a file says of a model, by key."""
    epsilon = "attention.layer_norm" + ("_rms" if config.norm == "rms" else "") + "_epsilon"
    left_out = {key for key in KEYS if key.endswith("_epsilon")} - {epsilon}
    if config.position != "rope":
        left_out |= {"rope.freq_base", "rope.dimension_count"}
    values = {key: getattr(config, field) for key, field in KEYS.items() if key not in left_out}
    values |= {"vocab_size": config.vocab_size, "attention.value_length": config.head_dim}
    arrays = {key: [value] * config.num_layers for key, value in architecture.gguf_arrays.items()}
    return {**{f"{architecture.gguf}.{key}": value for key, value in values.items()}, **arrays}


def _add(writer, key, value):
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
             str: writer.add_string, list: writer.add_array}  # fmt: skip
    kinds[type(value)](key, value)
