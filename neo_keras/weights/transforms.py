"""How their tensors become our variables, and our variables their tensors, to the last bit.

A linear layer of PyTorch, and of GGUF, has its kernel as [outputs, inputs]; ours as [inputs,
outputs], with queries, keys and values, or a gate and what it multiplies, side by side.
"""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Transform:
    read: Callable  # of (their tensors: list of arrays, `ModelConfig`): our variable
    write: Callable  # of (our variable, `ModelConfig`, number of their tensors): their tensors


def _split(array, config, num_parts):
    """Of [outputs, ...], the outputs of each of their tensors: of three, queries, keys, values."""
    if num_parts == 3:
        ends = np.cumsum([config.num_heads, config.num_kv_heads]) * config.head_dim
        return np.split(array, ends)
    return np.split(array, num_parts)


def _turned(array):
    return array.T  # of one axis, as it is


def _per_head(function):
    """A function of the places of a head, of [outputs, ...]."""

    def of_heads(array, config):
        heads = array.reshape(-1, config.head_dim, *array.shape[1:])
        return function(heads, config).reshape(array.shape)

    return of_heads


def _on_queries_keys(function):
    """A function of [outputs, ...] and a configuration, of the first two of three parts."""
    return lambda parts, config: [function(x, config) for x in parts[:2]] + list(parts[2:])


def _linear(after_read=lambda parts, config: parts, before_write=lambda parts, config: parts):
    """Linear layers, side by side; with functions of the list of their tensors."""

    def read(parts, config):
        return _turned(np.concatenate(after_read(parts, config)))

    def write(array, config, num_parts):
        return before_write(_split(_turned(array), config, num_parts), config)

    return Transform(read, write)


# Pairs that a rotation turns: theirs are (2 i, 2 i + 1), ours (i, i + head_dim / 2).
@_per_head
def _from_interleaved(heads, config):
    pairs = heads.reshape(len(heads), -1, 2, *heads.shape[2:])
    return np.swapaxes(pairs, 1, 2)


@_per_head
def _to_interleaved(heads, config):
    halves = heads.reshape(len(heads), 2, -1, *heads.shape[2:])
    return np.swapaxes(halves, 1, 2)


# Theirs turn the pairs (i, i + rotary_dim / 2), and leave what comes after `rotary_dim`.
def _partly_rotary_order(config):
    """For each place of our head, the place in theirs."""
    places, half = np.arange(config.head_dim), config.rotary_dim // 2
    firsts, seconds, rest = np.split(places, [half, 2 * half])
    middle = len(rest) // 2
    return np.concatenate([firsts, rest[:middle], seconds, rest[middle:]])


@_per_head
def _from_partly_rotary(heads, config):
    return heads[:, _partly_rotary_order(config)]


@_per_head
def _to_partly_rotary(heads, config):
    return heads[:, np.argsort(_partly_rotary_order(config))]


def _read_partly_rotary(parts, config):
    queries, keys, values = _split(parts[0], config, 3)
    queries, keys = (_from_partly_rotary(x, config) for x in (queries, keys))
    return _turned(np.concatenate([queries, keys, values]))


def _write_partly_rotary(array, config, num_parts):
    queries, keys, values = _split(_turned(array), config, 3)
    queries, keys = (_to_partly_rotary(x, config) for x in (queries, keys))
    return [np.concatenate([queries, keys, values])]


# GPT-NeoX has queries, keys and values of one head after another: [num_heads, 3, head_dim, ...].
def _read_neox(parts, config):
    x = parts[0].reshape(config.num_heads, 3, config.head_dim, *parts[0].shape[1:])
    return _read_partly_rotary([np.swapaxes(x, 0, 1).reshape(parts[0].shape)], config)


def _write_neox(array, config, num_parts):
    (x,) = _write_partly_rotary(array, config, num_parts)
    heads = x.reshape(3, config.num_heads, config.head_dim, *x.shape[1:])
    return [np.swapaxes(heads, 0, 1).reshape(x.shape)]


# GPT-Neo does not divide scores by sqrt(head_dim): our queries are larger.
def _scaled_queries(power):
    def scale(parts, config):
        return [parts[0] * np.float32(config.head_dim**power), *parts[1:]]

    return scale


KEEP = Transform(lambda parts, config: parts[0], lambda array, config, num_parts: [array])
LINEAR = _linear()
INTERLEAVED_QKV = _linear(_on_queries_keys(_from_interleaved), _on_queries_keys(_to_interleaved))
PARTLY_ROTARY_QKV = Transform(_read_partly_rotary, _write_partly_rotary)
NEOX_QKV = Transform(_read_neox, _write_neox)
UNSCALED_QKV = _linear(_scaled_queries(0.5), _scaled_queries(-0.5))
