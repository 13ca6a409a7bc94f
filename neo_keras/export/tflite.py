"""SavedModel to `.tflite`."""

import contextlib
import io
import pathlib
import tempfile

import keras
import tensorflow as tf

from neo_keras.export import embedding_lookup
from neo_keras.export.deduplicate import compact
from neo_keras.export.encoder_decoder import write_stateful
from neo_keras.export.in_place import InPlaceGPT
from neo_keras.export.quantization import quantize
from neo_keras.export.segmented import SegmentedGPT, sample_name, segment_ends
from neo_keras.export.signatures import unknown_bias, write_archive
from neo_keras.export.stateful import StatefulGPT
from neo_keras.generation import artifact
from neo_keras.generation.engine import make_engine
from neo_keras.generation.interpreter_runner import InterpreterRunner
from neo_keras.native_logs import native_log_hidden


def write_tflite(model, path, tokenizer, quantization, converted=None):
    """Writes one file that is all a phone needs: model, configuration, tokenizer.

    Args:
        model: `GPT` or `EncoderDecoder`.
        path: of the file.
        tokenizer: `Tokenizer`.
        quantization: one of `quantization.QUANTIZATIONS`.
        converted: as for `convert`.
    """
    is_decoder = model.config.architecture == "decoder-only"
    write = write_signatures if is_decoder else write_stateful
    convert(write, model, path, tokenizer.unk_token_id, quantization, converted)
    artifact.pack_tflite(path, model.config, quantization, tokenizer)


def write_page_tflite(model, path, tokenizer, quantization, converted=None):
    """Writes the file of the web page.

    Args:
        as `write_tflite`; of models, `GPT` only.
    """
    convert(write_page_signatures, model, path, tokenizer.unk_token_id, quantization, converted)
    artifact.pack_tflite(path, model.config, quantization, tokenizer)


def write_signatures(model, path, unk_token_id):
    """Writes a SavedModel with `in_place_signatures` and `STATEFUL_SIGNATURES`.

    Args:
        model: `GPT`.
        path: of the directory to write.
        unk_token_id: a token that is never to be drawn, or None.

    Returns:
        list of str, the names of the signatures.
    """
    bias = unknown_bias(model.config.vocab_size, unk_token_id)
    stateful, in_place = StatefulGPT(model, bias), InPlaceGPT(model, bias)
    signatures = in_place.signatures() + stateful.signatures()
    return _write_saved_model(path, stateful, {f.__name__: (f, specs) for f, specs in signatures})


def write_page_signatures(model, path, unk_token_id):
    """Writes a SavedModel with the signatures of `SegmentedGPT`, which the web page runs.

    Args, Returns:
        as `write_signatures`.
    """
    bias = unknown_bias(model.config.vocab_size, unk_token_id)
    segmented = SegmentedGPT(model, bias)
    return _write_saved_model(path, segmented, segmented.signatures())


def _write_saved_model(path, stateful, signatures):
    """Writes signatures, {name: (function, its inputs)}, and returns their names."""
    archive = keras.export.ExportArchive()
    archive.track(stateful)
    for name, (function, specs) in signatures.items():
        archive.add_endpoint(name, function, specs)
    write_archive(archive, path)
    return list(signatures)


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
            with embedding_lookup.lookup_operators(scale_rows):
                converted[key] = _float32_flatbuffer(write_saved_model, model, unk_token_id)
        flatbuffer, names = converted[key]
        pathlib.Path(path).write_bytes(flatbuffer)
        quantize(path, quantization, model.config)
        compact(path, names)


def _float32_flatbuffer(write_saved_model, model, unk_token_id):
    """(bytes, names of the signatures)."""
    with tempfile.TemporaryDirectory() as directory:
        names = write_saved_model(model, directory, unk_token_id)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=names)
        converter.experimental_enable_resource_variables = True
        return converter.convert(), names


def page_engine(path, config):
    """Decodes with the signatures of the web page, to see their logits.

    Args:
        path: of the file.
        config: `ModelConfig`.
    """
    ends = segment_ends(config.max_seq_len)

    def signature_of(name, inputs):
        if name != "decode":
            return name
        return sample_name(next(end for end in ends if inputs["input_pos"][0] < end))

    return make_engine(InterpreterRunner(path, signature_of=signature_of), config)
