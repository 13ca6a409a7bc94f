"""Adapters of Hugging Face's library PEFT: a folder with their matrices and the name of a base."""

import dataclasses
import math
import os
import pathlib
import re

import numpy as np

from neo_keras.atomic_files import write_json, write_text
from neo_keras.choices import LORA_KERNELS
from neo_keras.config import ModelConfig
from neo_keras.errors import InputError, shortened
from neo_keras.lora_config import LoraConfig
from neo_keras.weights.conversion import tensor_names
from neo_keras.weights.huggingface import Safetensors, read_json, save_tensors
from neo_keras.weights.layouts import Architecture
from neo_keras.weights.transforms import KEEP

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LIMIT = 2**31  # of its numbers
PREFIX = "base_model.model."  # of the names of their tensors
# Keys of adapter_config.json that change nothing in what is computed, or are read below.
KNOWN = {
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout",
    "megatron_core", "peft_version", "qalora_group_size", "r", "runtime_config", "target_modules",
    "use_rslora",
}  # fmt: skip
# Keys with the values that we compute; of all others what is null, false or empty.
COMPUTED = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    "revision": ("main", None),
    # Others change the base, too.
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}
CARD = """\
# Adapter trained with neo_keras

`PeftModel.from_pretrained(base, folder)` of PEFT adds it to the weights it was trained on, which
`adapter_config.json` names. So does `python generate.py FOLDER` of neo_keras.
"""


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Trained low-rank matrices, and what they add to."""

    base: str  # path or hf:// name
    architecture: Architecture
    config: ModelConfig
    lora: LoraConfig
    factors: dict  # (number of a block, name of `LORA_KERNELS`) -> [(A, B), ...], as `LoraAdapter`


class PeftFolder:
    """An adapter in a folder, whose tensors are still in its file.

    Raises `InputError` where it is damaged, or does what we do not compute.
    """

    def __init__(self, path):
        self.path = path
        config = read_json(path / CONFIG)
        _check_computed(config)
        self.rank, alpha = config.get("r"), config.get("lora_alpha")
        if type(self.rank) is not int or not 1 <= self.rank < LIMIT:
            raise _wrong("r", self.rank, "an integer of at least 1, below 2**31")
        if type(alpha) not in (int, float) or not 0 < alpha < LIMIT:
            raise _wrong("lora_alpha", alpha, "a number above 0, below 2**31")
        # rsLoRA: Kalajdzievski 2023, arXiv:2312.03732.
        self.scale = alpha / (math.sqrt(self.rank) if config.get("use_rslora") else self.rank)
        self.base = _find_base(path, config.get("base_model_name_or_path"))
        if not (path / WEIGHTS).exists():
            if list(path.glob("*.bin")):
                raise InputError(
                    f"{path} has its adapter as .bin, which is a pickle, and can run any code: "
                    "save it again with PEFT, which writes safetensors"
                )
            raise InputError(f"{path} has no {WEIGHTS}: copy all files of the adapter")
        self.file = Safetensors(path, WEIGHTS)

    def check(self, architecture, config):
        """Raises `InputError` unless all of it belongs to a model; reads no numbers."""
        expected = {}
        for _, _, modules, inputs, units in _kernels(architecture, config):
            for module, outputs in zip(modules, units):
                expected[f"{PREFIX}{module}.lora_A.weight"] = (self.rank, inputs)
                expected[f"{PREFIX}{module}.lora_B.weight"] = (outputs, self.rank)
        for name in sorted(self.file.names):
            if name not in expected:
                raise InputError(
                    f"{self.path} has a tensor {shortened(name)}, for which its base has no matrix "
                    "in a block: neo_keras would not compute what it is for"
                )
            if self.file.shape(name) != expected[name]:
                raise InputError(
                    f"{self.path} has a tensor {name} of the shape {self.file.shape(name)}, "
                    f"expected {expected[name]}: it is of another base, or {CONFIG} is"
                )
            side, other = ("lora_A", "lora_B")[:: 1 if "lora_A" in name else -1]
            if name.replace(side, other) not in self.file.names:
                raise InputError(f"{self.path} has no {name.replace(side, other)}: copy it again")

    def add_to(self, model, architecture):
        """Adds what it computes to the kernels of a `GPT` that has the weights of its base."""
        variables = {v.path.partition("/")[2]: v for v in model.variables}
        for path, row, modules, inputs, units in _kernels(architecture, model.config):
            there = [f"{PREFIX}{module}.lora_A.weight" in self.file.names for module in modules]
            if not any(there):
                continue
            deltas = [
                self._delta(module) if is_there else np.zeros((outputs, inputs), "float32")
                for module, outputs, is_there in zip(modules, units, there)
            ]
            deltas = _as_stored(deltas, architecture)
            variables[path].assign(variables[path] + row.transform.read(deltas, model.config))

    def _delta(self, module):
        a, b = (self.file.read(f"{PREFIX}{module}.lora_{side}.weight") for side in "AB")
        return np.float32(self.scale) * (b @ a)  # [outputs, inputs]


def is_adapter(path):
    return (path / CONFIG).exists()


def write_adapter(path, adapter):
    """Writes the folder of an `Adapter`: its directory is made."""
    architecture, lora, tensors, targets = adapter.architecture, adapter.lora, {}, set()
    for our_path, row, modules, _, _ in _kernels(architecture, adapter.config):
        block, _, kernel = our_path.partition("/")
        name = next(name for name, path in LORA_KERNELS.items() if path == kernel)
        factors = adapter.factors.get((int(block.removeprefix("block_")), name))
        if factors is None:
            continue
        targets.update(modules)
        b = np.concatenate([b for _, b in factors], axis=1)  # as a kernel with `rank` inputs
        b = row.transform.write(b.T if name == "contract" else b, adapter.config, len(modules))
        for module, (a, _), side in zip(modules, factors, _as_stored(b, architecture)):
            tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a.T)
            tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(side)
    path.mkdir(exist_ok=True)
    save_tensors(path / WEIGHTS, tensors)
    every = {m for _, _, modules, _, _ in _kernels(architecture, adapter.config) for m in modules}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base.removeprefix("hf://"),
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(_short_names(targets, every - targets)),
        "fan_in_fan_out": _has_turned_kernels(architecture),
        "bias": "none",
        "inference_mode": True,
    }
    write_json(path / CONFIG, config)
    write_text(path / "README.md", CARD)


def _kernels(architecture, config):
    """Yields (our path, row of the table, their modules, inputs, outputs of each) of a model."""
    rows = {row.ours: row for row in architecture.tensors}
    matrices = LoraConfig(1, fused_qkv=architecture.has_fused_qkv).matrices(config)
    for block in range(config.num_layers):
        for name, (inputs, units) in matrices.items():
            row = rows[f"block_{{}}/{LORA_KERNELS[name]}"]
            modules = [n.removesuffix(".weight") for n in tensor_names(row, "huggingface", block)]
            yield row.ours.replace("{}", str(block)), row, modules, inputs, units


def _has_turned_kernels(architecture):
    """Whether their kernels are [inputs, outputs], as those of GPT-2's "Conv1D" are."""
    (row,) = (r for r in architecture.tensors if r.ours == "block_{}/feed_forward/expand/kernel")
    return row.transform is KEEP


def _as_stored(arrays, architecture):
    """Arrays [outputs, ...] as their kernels lie, or back."""
    return [array.T for array in arrays] if _has_turned_kernels(architecture) else arrays


def _short_names(modules, others):
    """As little of the ends of names as tells them from others: what PEFT looks for."""
    short = set()
    for module in modules:
        parts = module.split(".")
        for count in range(1, len(parts) + 1):
            end = ".".join(parts[-count:])
            if not any(f".{other}".endswith(f".{end}") for other in others):
                short.add(end)
                break
    return short


def _check_computed(config):
    for key in sorted(config.keys() - KNOWN):
        value = config[key]
        computed = COMPUTED.get(key)
        if value not in computed if computed else value:
            expected = " or ".join(map(repr, computed)) if computed else "none"
            raise _wrong(key, value, f"{expected}, for neo_keras computes nothing else")


def _wrong(key, value, expected):
    return InputError(f"{CONFIG} has the {key} {shortened(value)}, expected {expected}")


def _find_base(folder, name):
    """A path or hf:// name of what an adapter adds to."""
    if not isinstance(name, str) or not name:
        raise _wrong("base_model_name_or_path", name, "the path of the base, or its owner/name")
    for path in (folder / name, pathlib.Path(name)):
        if os.path.exists(path):  # which takes names that no file can have, too
            return str(path)
    name = name.removeprefix("hf://")
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        return f"hf://{name}"
    raise InputError(
        f"{folder} adds to {shortened(name)}, which does not exist: put it there, or change "
        f"base_model_name_or_path in its {CONFIG}"
    )
