"""Writes a run's model in each asked form; a file takes its name once it is verified."""

import dataclasses
import pathlib
import tempfile

from neo_keras.errors import InputError
from neo_keras.export import litertlm, signatures, tflite, verify
from neo_keras.export.quantization import DEFAULTS
from neo_keras.files import complete_or_absent, write_json
from neo_keras.generation import artifact
from neo_keras.generation.keras_engine import KerasEngine
from neo_keras.generation.litert_engine import LiteRTEngine
from neo_keras.generation.saved_model_engine import SavedModelEngine

FORMATS = ("saved_model", "tflite", "litertlm")


def export_run(run, formats=FORMATS, quantizations=DEFAULTS, out=None, on_row=None):
    """Exports the best model of a run.

    Args:
        run: `RunDirectory`.
        formats: some of `FORMATS`. A SavedModel is always float32.
        quantizations: some of `quantization.QUANTIZATIONS`.
        out: directory to write to; None: `export/` in the run.
        on_row: called with each row of the report as it is measured.

    Returns:
        list of dict, the rows of `report.json`: the Keras model first, then a row per file.

    Raises:
        InputError: the run has no usable checkpoint, or `out` cannot be written.
        VerificationError: a file does not compute what the Keras model computes.
    """
    tokenizer, model = run.load_tokenizer(), run.load_model()
    validation_ids = tokenizer.encode(run.load_validation_text())
    reference = verify.make_reference(model, validation_ids, tokenizer.unk_token_id)
    out = pathlib.Path(out or run.export)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {out} ({error.strerror}): choose another --out"
        ) from None

    rows = []

    def add(name, size_bytes, measurement):
        rows.append({"file": name, "size_bytes": size_bytes, **dataclasses.asdict(measurement)})
        if on_row:
            on_row(rows[-1])

    add("(Keras)", None, verify.measure(KerasEngine(model), reference))
    for export_format in formats:
        write, converted = WRITERS[export_format], {}
        for quantization in ["float32"] if export_format == "saved_model" else quantizations:
            name = NAMES[export_format].format(quantization)
            with complete_or_absent(out / name) as partial:
                measurement = write(model, partial, tokenizer, quantization, reference, converted)
                verify.check(measurement, reference, quantization, name)
            add(name, _size_bytes(out / name), measurement)
    write_json(out / "report.json", rows)
    return rows


def _write_saved_model(model, path, tokenizer, quantization, reference, converted):
    signatures.write_functional(model, path, tokenizer.unk_token_id)
    artifact.pack_saved_model(path, model.config, tokenizer)
    return verify.measure(SavedModelEngine(path, model.config), reference)


def _write_tflite(model, path, tokenizer, quantization, reference, converted):
    tflite.write_tflite(model, path, tokenizer, quantization, converted)
    model_config, _ = artifact.unpack_tflite(path)
    return verify.measure(LiteRTEngine(path, model_config), reference)


def _write_litertlm(model, path, tokenizer, quantization, reference, converted):
    with tempfile.TemporaryDirectory() as directory:
        inner = pathlib.Path(directory) / "model.tflite"
        litertlm.write_inner_tflite(model, inner, tokenizer, quantization, converted)
        litertlm.bundle(inner, path, model.config, tokenizer)
        engine = litertlm.BundledTFLiteEngine(inner, model.config)
        measurement = verify.measure(engine, reference)
    litertlm.check_text(path, KerasEngine(model), tokenizer, reference, quantization)
    return measurement


WRITERS = {"saved_model": _write_saved_model, "tflite": _write_tflite, "litertlm": _write_litertlm}
NAMES = {
    "saved_model": "saved_model",
    "tflite": "model-{}.tflite",
    "litertlm": "model-{}.litertlm",
}


def _size_bytes(path):
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
