"""SavedModel to `.tflite`."""

import contextlib
import io
import pathlib
import tempfile

import tensorflow as tf

from neo_keras.export import signatures, tables
from neo_keras.export.quantization import quantize
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
    unk_token_id = tokenizer.unk_token_id
    convert(signatures.write_stateful, model, path, unk_token_id, quantization, converted)
    artifact.pack_tflite(path, model.config, quantization, tokenizer)


def convert(write_saved_model, model, path, unk_token_id, quantization, converted=None):
    """Converts a model to a flatbuffer of builtin operators only.

    Args:
        write_saved_model: a function of `signatures` that returns signature names.
        model: `GPT`.
        path: of the file.
        unk_token_id: a token that is never to be drawn, or None.
        quantization: one of `quantization.QUANTIZATIONS`.
        converted: dict that keeps, between calls with the same model and `write_saved_model`, what
            their quantizations have in common: it is most of the work. None: nothing is kept.
    """
    converted = {} if converted is None else converted
    scale_rows = quantization.startswith("int")
    # The converter and the quantizer say on both streams what they do.
    with native_log_hidden(), contextlib.redirect_stdout(io.StringIO()):
        if scale_rows not in converted:
            with tables.lookup_operators(scale_rows):
                converted[scale_rows] = _float32_flatbuffer(write_saved_model, model, unk_token_id)
        pathlib.Path(path).write_bytes(converted[scale_rows])
        quantize(path, quantization, model.config)


def _float32_flatbuffer(write_saved_model, model, unk_token_id):
    with tempfile.TemporaryDirectory() as directory:
        names = write_saved_model(model, directory, unk_token_id)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=names)
        converter.experimental_enable_resource_variables = True
        return converter.convert()
