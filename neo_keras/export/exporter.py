"""Writes a run's model in each asked form; a file takes its name once it is verified."""

import dataclasses
import pathlib
import tempfile

from neo_keras.atomic_files import atomic_write, plainly_named, write_json
from neo_keras.cpu import runs_compiled_model
from neo_keras.errors import InputError
from neo_keras.export import encoder_decoder, parity, signatures, tflite, web
from neo_keras.export.benchmark import measure_footprint
from neo_keras.export.model_card import write_model_card
from neo_keras.export.quantization import DEFAULTS
from neo_keras.export.replaceable import CARD, REPORT, check_replaceable
from neo_keras.generation import artifact
from neo_keras.generation.decoding import check_finite
from neo_keras.generation.engine import make_engine
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.load import tflite_engine
from neo_keras.generation.saved_model_runner import SavedModelRunner
from neo_keras.text.encoding import encode_text
from neo_keras.text.pairs import encode_pairs, parse_pairs
from neo_keras.text.shards import Text

FORMATS = ("saved_model", "tflite", "litertlm")  # unless asked; and "web"
ENCODER_DECODER_FORMATS = FORMATS[:2]


def export_run(run, formats=None, quantizations=DEFAULTS, out=None, on_row=None):
    """Exports the best model of a run.

    Args:
        run: `RunDirectory`.
        formats: some of `FORMATS` and "web"; None: all of `FORMATS` that the model can have. Of an
            encoder-decoder there is a SavedModel and `.tflite`. A SavedModel is always float32; a
            web page has one model, int8 if that is among the quantizations.
        quantizations: some of `quantization.QUANTIZATIONS`.
        out: directory to write to; None: `export/` in the run.
        on_row: called with each row of the report as it is measured.

    Returns:
        list of dict, the rows of `report.json`: the Keras model first, then a row per file. Each
        has `file`, the fields of `parity.Measurement` and `bits_per_char`; files have `size_bytes`
        and `bytes_per_parameter`; `.tflite` files what `measure_footprint` returns.

    Raises:
        InputError: the run has no usable checkpoint, `out` cannot be written or holds something
            else under one of the names, the model cannot have a format, or the runtime that a web
            page needs is not installed.
        VerificationError: a file does not compute what the Keras model computes.
        FailedError: the model computes no numbers.
    """
    formats = _formats_for(run.model_config, formats)
    files = [
        (f, q, NAMES[f].format(q)) for f in formats for q in _quantizations_of(f, quantizations)
    ]
    out = pathlib.Path(out or run.export)
    # Before minutes of work that would be for nothing.
    if "web" in formats:
        web.find_runtime()
    check_replaceable([out / name for name in (*(name for _, _, name in files), REPORT, CARD)])
    tokenizer, model = run.load_tokenizer(), run.load_model()
    reference, encoded = _make_reference(model, run.load_validation_text(), tokenizer)
    check_finite(reference.logits)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {out} ({error.strerror}): choose another --out"
        ) from None

    rows, converted = [], {}

    def add(name, measurement):
        row = {"file": name, **dataclasses.asdict(measurement)}
        row["bits_per_char"] = encoded.bits_per_char(measurement.loss)
        if (out / name).exists():
            row["size_bytes"] = _size_bytes(out / name)
            row["bytes_per_parameter"] = row["size_bytes"] / model.count_params()
        if name.endswith(".tflite"):
            row.update(measure_footprint(out / name))
        rows.append(row)
        if on_row:
            on_row(row)

    add("(Keras)", parity.measure(keras_engine(model), reference))
    for export_format, quantization, name in files:
        write = WRITERS[export_format]
        with atomic_write(out / name) as partial:
            measurement = write(model, partial, tokenizer, quantization, reference, converted)
            parity.check(measurement, reference, quantization, name)
        add(name, measurement)
    write_json(out / REPORT, rows)
    write_model_card(out / CARD, run, rows, model.count_params(), tokenizer)
    return rows


def _formats_for(model_config, formats):
    if model_config.architecture == "decoder-only":
        return formats or FORMATS
    formats = formats or ENCODER_DECODER_FORMATS
    if impossible := [name for name in formats if name not in ENCODER_DECODER_FORMATS]:
        raise InputError(
            f"{' and '.join(impossible)}: for decoder-only models, and this is an encoder-decoder; "
            f"it has the formats {','.join(ENCODER_DECODER_FORMATS)}"
        )
    return formats


def _make_reference(model, text, tokenizer):
    """(Reference, the text or the pairs as token ids)."""
    config, unk_token_id = model.config, tokenizer.unk_token_id
    if config.end_token_id is not None:
        pairs = parse_pairs(text.split("\n"), "validation.jsonl")
        encoded = encode_pairs(pairs, tokenizer, config.max_seq_len)
        return parity.make_pairs_reference(model, encoded, unk_token_id), encoded
    encoded = encode_text(tokenizer, Text.in_memory(text))
    is_decoder = config.architecture == "decoder-only"
    make = parity.make_reference if is_decoder else parity.make_source_reference
    return make(model, encoded.token_ids, unk_token_id), encoded


def _quantizations_of(export_format, quantizations):
    if export_format == "saved_model":
        return ["float32"]
    if export_format == "web":
        return ["int8"] if "int8" in quantizations else quantizations[:1]
    return quantizations


def _write_saved_model(model, path, tokenizer, quantization, reference, converted):
    is_decoder = model.config.architecture == "decoder-only"
    form = signatures if is_decoder else encoder_decoder
    path.mkdir()
    with plainly_named(path) as name:
        form.write_functional(model, name, tokenizer.unk_token_id)
    artifact.pack_saved_model(path, model.config, tokenizer)
    return parity.measure(make_engine(SavedModelRunner(path), model.config), reference)


def _write_tflite(model, path, tokenizer, quantization, reference, converted):
    tflite.write_tflite(model, path, tokenizer, quantization, converted)
    model_config, _ = artifact.unpack_tflite(path)
    measurement = parity.measure(tflite_engine(path, model_config, in_place=False), reference)
    if model_config.architecture == "encoder-decoder" or not runs_compiled_model():
        return measurement
    parity.check(measurement, reference, quantization, path.name)
    engine = tflite_engine(path, model_config)
    if engine.num_speculative_tokens:
        ahead = parity.measure(engine, reference, read_ahead=True)
        parity.check(ahead, reference, quantization, path.name)
    return parity.measure(engine, reference)


def _write_litertlm(model, path, tokenizer, quantization, reference, converted):
    try:  # an environment for an Intel XPU cannot have its packages
        from neo_keras.export import litertlm
    except ImportError as error:
        raise InputError(
            f"a .litertlm needs LiteRT-LM's packages ({error}): export in an environment of "
            "requirements.txt, or with --formats saved_model,tflite"
        ) from None
    with tempfile.TemporaryDirectory() as directory:
        inner = pathlib.Path(directory) / "model.tflite"
        litertlm.write_inner_tflite(model, inner, tokenizer, quantization, converted)
        litertlm.bundle(inner, path, model.config, tokenizer)
        engine = litertlm.inner_engine(inner, model.config)
        measurement = parity.measure(engine, reference)
    litertlm.check_text(path, keras_engine(model), tokenizer, reference, quantization)
    return measurement


def _write_web(model, path, tokenizer, quantization, reference, converted):
    path.mkdir()
    model_path = path / "model.tflite"
    tflite.write_page_tflite(model, model_path, tokenizer, quantization, converted)
    web.write_page_around(model_path)
    engine = tflite.page_engine(model_path, model.config)
    return parity.measure(engine, reference)


WRITERS = {
    "saved_model": _write_saved_model,
    "tflite": _write_tflite,
    "litertlm": _write_litertlm,
    "web": _write_web,
}
NAMES = {
    "saved_model": "saved_model",
    "tflite": "model-{}.tflite",
    "litertlm": "model-{}.litertlm",
    "web": "web",
}


def _size_bytes(path):
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
