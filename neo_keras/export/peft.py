"""A folder that `PeftModel.from_pretrained` of PEFT opens: adapters without their base."""

from neo_keras.export import portable
from neo_keras.weights.peft import write_adapter


def write(source, path, quantization):
    """Writes a folder and measures it, added to its base; see `formats.Format`."""
    write_adapter(path, source.adapter)
    return portable.read_back(source, path, quantization)
