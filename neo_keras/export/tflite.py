"""A `.tflite` file: all that a phone needs, for LiteRT."""

import contextlib
import io
import pathlib
import tempfile

import tensorflow as tf

from neo_keras.cpu import runs_compiled_model
from neo_keras.export import parity
from neo_keras.export.deduplicate import deduplicate
from neo_keras.export.embedding_lookup import lookup_operators
from neo_keras.export.quantization import QUANTIZATIONS, quantize
from neo_keras.export.signatures import tflite_signatures, write_signatures
from neo_keras.generation import artifact
from neo_keras.generation.load import tflite_engine
from neo_keras.native_logs import native_log_hidden


def write(source, path, quantization):
    """Writes a file and measures it in both of LiteRT's runtimes; see `formats.Format`."""
    write_tflite(source.model, path, source.tokenizer, quantization, source.flatbuffers)
    config, _ = artifact.unpack_tflite(path)
    measurement = parity.measure(tflite_engine(path, config, in_place=False), source.reference)
    if source.model.has_encoder or not runs_compiled_model():
        return measurement
    parity.check(measurement, source.reference, quantization, path.name)
    engine = tflite_engine(path, config)
    if engine.num_speculative_tokens:
        speculative = parity.measure(engine, source.reference, speculative=True)
        parity.check(speculative, source.reference, quantization, path.name)
    return parity.measure(engine, source.reference)


def write_tflite(
    model, path, tokenizer, quantization, flatbuffers=None, make_signatures=tflite_signatures
):
    """Writes a file with its configuration and tokenizer.

    Args:
        model: `GPT` or `EncoderDecoder`.
        path: of the file.
        tokenizer: `Tokenizer`.
        quantization: one of `QUANTIZATIONS`.
        flatbuffers, make_signatures: as for `convert`.
    """
    convert(make_signatures, model, path, tokenizer.unk_token_id, quantization, flatbuffers)
    artifact.pack_tflite(path, model.config, quantization, tokenizer)


def convert(make_signatures, model, path, unk_token_id, quantization, flatbuffers=None):
    """Converts a model to a flatbuffer of builtin operators only.

    Args:
        make_signatures: one of those in `signatures`.
        model: `GPT` or `EncoderDecoder`.
        path: of the file.
        unk_token_id: a token that is never to be sampled, or None.
        quantization: one of `QUANTIZATIONS`.
        flatbuffers: dict that keeps, between calls with the same model, what quantizations have in
            common: it is most of the work. None: nothing is kept.
    """
    flatbuffers = {} if flatbuffers is None else flatbuffers
    scale_rows = QUANTIZATIONS[quantization].has_scales
    # The converter and the quantizer say on both streams what they do.
    with native_log_hidden(), contextlib.redirect_stdout(io.StringIO()):
        key = make_signatures, scale_rows
        if key not in flatbuffers:
            with lookup_operators(scale_rows):
                flatbuffers[key] = _float32_flatbuffer(make_signatures, model, unk_token_id)
        flatbuffer, names = flatbuffers[key]
        pathlib.Path(path).write_bytes(flatbuffer)
        quantize(path, quantization, model.config)
        deduplicate(path, names)


def _float32_flatbuffer(make_signatures, model, unk_token_id):
    """(bytes, names of the signatures)."""
    with tempfile.TemporaryDirectory() as directory:
        names = write_signatures(make_signatures, model, directory, unk_token_id)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=names)
        converter.experimental_enable_resource_variables = True
        return converter.convert(), names
