"""Opens a model that another program wrote, whatever its form."""

import dataclasses
import hashlib
import os
import pathlib

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.weights.conversion import check_sizes, fill
from neo_keras.weights.gguf import open_gguf
from neo_keras.weights.huggingface import is_folder, open_folder, read_config_json
from neo_keras.weights.layouts import Architecture
from neo_keras.weights.peft import PeftFolder, is_adapter

HUB = "hf://"
# Of a longer context: its KV cache fits the memory of a phone.
DEFAULT_SEQ_LEN = 1024


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model of another program, whose weights are still in its files."""

    path: str  # as it was given
    config: ModelConfig
    tokenizer: Tokenizer
    architecture: Architecture
    form: str  # "huggingface" or "gguf"
    file: object  # its tensors, as `conversion` takes them
    full_seq_len: int  # of the context that it was trained with
    adapter: PeftFolder | None = None  # what adds to the tensors

    @property
    def name(self):
        """Of the folder or the file, without what says its form."""
        return pathlib.PurePath(self.path).name.removesuffix(".gguf")

    @property
    def weight_paths(self):
        """The files of its weights: list."""
        return self.file.paths + (self.adapter.file.paths if self.adapter else [])

    def fill(self, model):
        """Assigns its weights to a `GPT` of its configuration."""
        fill(model, self.file, self.architecture, self.form)
        if self.adapter:
            self.adapter.add_to(model, self.architecture)

    def sha256(self):
        """Of the files of its weights, one after another: hexadecimal str."""
        digest = hashlib.sha256()
        for path in self.weight_paths:
            with open(path, "rb") as file:
                hashlib.file_digest(file, lambda: digest)
        return digest.hexdigest()

    def load_model(self):
        """A new `GPT` with its weights, in float32."""
        from neo_keras.model.gpt import GPT

        model = GPT(self.config)
        self.fill(model)
        return model


def is_pretrained(path):
    """Whether a path is one that `open_pretrained` takes, as far as names tell."""
    if str(path).startswith(HUB) or str(path).endswith(".gguf"):
        return True
    path = pathlib.Path(path)
    return path.is_dir() and (is_adapter(path) or is_folder(path) or _is_keras_hub(path))


def open_pretrained(path, max_seq_len=None):
    """The `Pretrained` of a path; reads no weights yet.

    Args:
        path: of a folder of transformers, a preset folder of KerasHub, or a `.gguf` file; of an
            adapter of PEFT, which names one of these; or "hf://owner/name", which is downloaded
            once.
        max_seq_len: a shorter context than it was trained with, for a smaller KV cache; None: its
            own, but at most `DEFAULT_SEQ_LEN`.

    Raises:
        InputError: it is none of these, damaged, incomplete, or computes what we do not.
    """
    folder = _local(path)
    if is_adapter(folder):
        return _open_adapter(path, folder, max_seq_len)
    return _open_model(path, folder, max_seq_len)


def _local(path):
    folder = _download(str(path)) if str(path).startswith(HUB) else pathlib.Path(path)
    if not folder.exists():
        raise InputError(f"{path} does not exist: give a folder, a .gguf file or {HUB}owner/name")
    return folder


def _open_adapter(path, folder, max_seq_len):
    adapter = PeftFolder(folder)
    base = _local(adapter.base)
    if is_adapter(base):
        raise InputError(
            f"{path} adds to {adapter.base}, which is an adapter itself: merge that into its base, "
            "with merge_and_unload of PEFT"
        )
    pretrained = _open_model(adapter.base, base, max_seq_len)
    adapter.check(pretrained.architecture, pretrained.config)
    tokenizer = pretrained.tokenizer
    if (folder / "tokenizer.json").exists():  # its training may have changed it
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        tokenizer.check_vocab_size(pretrained.config.vocab_size, path)
    return dataclasses.replace(pretrained, path=str(path), tokenizer=tokenizer, adapter=adapter)


def _open_model(path, folder, max_seq_len):
    if folder.is_file():
        form, opened = "gguf", open_gguf(folder)
    else:
        if _is_keras_hub(folder):
            folder = _from_keras_hub(folder)
        form, opened = "huggingface", open_folder(folder)
    file, architecture, config, tokenizer = opened
    check_sizes(file, architecture, form, config)
    tokenizer.check_vocab_size(config.vocab_size, path)
    full_seq_len, config = config.max_seq_len, _shortened(config, max_seq_len, path)
    return Pretrained(str(path), config, tokenizer, architecture, form, file, full_seq_len)


def full_path(path):
    """A path that is the same from any directory."""
    return path if path.startswith(HUB) else os.path.abspath(path)


def _shortened(config, max_seq_len, path):
    if max_seq_len is not None and max_seq_len > config.max_seq_len:
        raise InputError(
            f"--seq-len must be at most the context of {path}, {config.max_seq_len}, got "
            f"{max_seq_len}"
        )
    if max_seq_len is None:
        max_seq_len = min(config.max_seq_len, DEFAULT_SEQ_LEN)
    config = dataclasses.replace(config, max_seq_len=max_seq_len)
    if config.window and config.window >= config.max_seq_len:  # it hides nothing
        config = dataclasses.replace(config, window=None)
    return config


def describe_pretrained(pretrained):
    """What was opened, for people; list of lines."""
    config, full = pretrained.config, pretrained.full_seq_len
    lines = [
        f"{pretrained.path}: {config.num_layers} layers, {config.hidden_dim} wide, "
        f"{config.vocab_size:,} tokens"
    ]
    if config.max_seq_len < full:
        slot_bytes = 8 * config.num_layers * config.num_kv_heads * config.head_dim
        saved = slot_bytes * (full - config.max_seq_len) / 1e6
        lengths = f"{config.max_seq_len:,} of {full:,} tokens"
        lines.append(f"a context of {lengths}: its KV cache is {saved:,.0f} MB smaller (--seq-len)")
    return lines


def _is_keras_hub(path):
    return str(read_config_json(path).get("registered_name", "")).startswith("keras_hub>")


def _from_keras_hub(path):
    """The folder of transformers that KerasHub makes of a preset; it goes with this process."""
    import keras_hub

    from neo_keras.environment import temporary_directory

    folder = pathlib.Path(temporary_directory())
    try:
        keras_hub.models.Backbone.from_preset(str(path)).export_to_transformers(str(folder))
        keras_hub.tokenizers.Tokenizer.from_preset(str(path)).export_to_transformers(str(folder))
    except Exception as error:  # KerasHub names what it cannot export in many ways
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"KerasHub cannot export {path} to transformers ({reason})") from None
    return folder


def _download(path):
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(f"{path} needs the package huggingface_hub: pip install it") from None
    owner, _, name = path.removeprefix(HUB).partition("/")
    if not owner or not name or "/" in name:
        raise InputError(f"expected {HUB}owner/name, got {path}")
    try:
        patterns = ["*.json", "*.safetensors", "merges.txt"]
        folder = huggingface_hub.snapshot_download(f"{owner}/{name}", allow_patterns=patterns)
    except Exception as error:  # of its own, of HTTP and of the network
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"cannot download {path} ({reason}): check its name and the network, or give a folder"
        ) from None
    return pathlib.Path(folder)
