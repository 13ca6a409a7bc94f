"""SavedModel to `.tflite`."""

import contextlib
import io
import pathlib
import tempfile

import tensorflow as tf

from neo_keras.export import tables
from neo_keras.export.compact import compact
from neo_keras.export.quantization import quantize
from neo_keras.export.stateful import write_stateful
from neo_keras.generation import artifact
from neo_keras.quiet import native_log_hidden


def write_tflite(model, path, tokenizer, quantization, converted=None):
    """Writes one file that is all a phone needs: stateful model, configuration, tokenizer.

    Args:
        model: `GPT`.
        path: of the file.
        tokenizer: `Tokenizer`.
        quantization: one of `quantization.QUANTIZATIONS`.
        converted: as for `convert`.
    """
    convert(write_stateful, model, path, tokenizer.unk_token_id, quantization, converted)
    artifact.pack_tflite(path, model.config, quantization, tokenizer)


def convert(write_saved_model, model, path, unk_token_id, quantization, converted=None):
    """Converts a model to a flatbuffer of builtin operators only.

    Args:
        write_saved_model: a function that writes signatures and returns their names.
        model: `GPT`.
        path: of the file.
        unk_token_id: a token that is never to be drawn, or None.
        quantization: one of `quantization.QUANTIZATIONS`.
        converted: dict that keeps, between calls with the same model, what quantizations have in
            common: it is most of the work. None: nothing is kept.
    """
    converted = {} if converted is None else converted
    scale_rows = quantization.startswith("int")
    # The converter and the quantizer say on both streams what they do.
    with native_log_hidden(), contextlib.redirect_stdout(io.StringIO()):
        key = write_saved_model, scale_rows
        if key not in converted:
            with tables.lookup_operators(scale_rows):
                converted[key] = _float32_flatbuffer(write_saved_model, model, unk_token_id)
        pathlib.Path(path).write_bytes(converted[key])
        quantize(path, quantization, model.config)
        compact(path)


def _float32_flatbuffer(write_saved_model, model, unk_token_id):
    with tempfile.TemporaryDirectory() as directory:
        names = write_saved_model(model, directory, unk_token_id)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=names)
        converter.experimental_enable_resource_variables = True
        return converter.convert()
