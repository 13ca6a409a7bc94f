"""Damaged, foreign and hostile GGUF files: one line each."""

import resource
import struct

import gguf
import pytest
import tiny_llama

from neo_keras.errors import InputError
from neo_keras.weights import gguf as ours
from neo_keras.weights.open import open_pretrained


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function of changes of the fields of a file, by key; None leaves one out."""
    parts = tiny_llama.make("gguf")

    def write(**changes):
        fields = ours._fields

        def changed(architecture, config):
            kept = {**fields(architecture, config), **changes}
            return {key: value for key, value in kept.items() if value is not None}

        monkeypatch.setattr(ours, "_fields", changed)
        path = tmp_path / "model.gguf"
        ours.write_gguf(path, *parts)
        return path

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.block_count": None}, "has no llama.block_count"),
        ({"llama.block_count": 10**9}, "too few for 1000000000 layers"),
        ({"llama.block_count": 1}, "tensors that its architecture does not have"),
        ({"llama.embedding_length": 10**9}, "and the configuration asks for"),
        ({"llama.attention.head_count": 10**9}, "and the configuration asks for"),
        ({"llama.attention.head_count": [4, 4]}, "num_heads must be of type int"),
        ({"llama.feed_forward_length": 30}, "and the configuration asks for"),
        ({"llama.rope.scaling.type": "yarn"}, "has llama.rope.scaling.type = 'yarn'"),
        ({"llama.expert_count": 8}, "has llama.expert_count = .*8"),
        ({"llama.attention.layer_norm_rms_epsilon": -1.0}, "norm_epsilon must be above 0"),
    ],
)
def test_fields(write, changes, message):
    with pytest.raises(InputError, match=message) as raised:
        open_pretrained(write(**changes)).load_model()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b"",
        lambda b: b[:100],
        lambda b: b[: len(b) // 2],
        lambda b: b[:-100],
        lambda b: b"GGML" + b[4:],
        lambda b: b[:4] + struct.pack("<I", 99) + b[8:],
        lambda b: b[:8] + struct.pack("<Q", 2**62) + b[16:],  # so many tensors
        lambda b: b[:16] + struct.pack("<Q", 2**62) + b[24:],  # so many fields
        lambda b: b"\xff" * len(b),
        lambda b: b"\0" * len(b),
    ],
    ids=range(10),
)
def test_bytes(write, change):
    path = write()
    path.write_bytes(change(path.read_bytes()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as raised:
        open_pretrained(path).load_model()
    assert "\n" not in str(raised.value) and path.name in str(raised.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KB


def test_another_architecture(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(InputError, match="has the architecture 'mamba', expected one of gpt2, "):
        open_pretrained(tmp_path / "a.gguf")
