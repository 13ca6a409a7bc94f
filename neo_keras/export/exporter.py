"""Writes a model in each asked form; a file takes its name once it is verified."""

import dataclasses
import itertools
import pathlib

from neo_keras.atomic_files import atomic_write, write_json
from neo_keras.errors import InputError
from neo_keras.export import parity
from neo_keras.export.benchmark import run_benchmark
from neo_keras.export.formats import FORMATS, Source, check_names, formats_for
from neo_keras.export.model_card import describe_run, write_model_card
from neo_keras.export.quantization import DEFAULTS, QUANTIZATIONS
from neo_keras.export.replaceable import CARD, REPORT, check_replaceable
from neo_keras.generation.decoding import generate_ids
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.sampler import Sampler

NUM_SAMPLED_TOKENS = 512  # to verify on, where there is no text


def export_run(run, formats=None, quantizations=DEFAULTS, out=None, on_row=None):
    """Exports the best model of a run.

    Args:
        run: `RunDirectory`.
        out: directory to write to; None: `export/` in the run.
        formats, quantizations, on_row: as for `export_model`.

    Returns, Raises:
        as `export_model`; also `InputError`: the run has no usable checkpoint.
    """
    out = pathlib.Path(out or run.export)
    _plan(run.model_config, formats, quantizations, out)  # before a model is loaded
    return export_model(
        run.load_model(), run.load_tokenizer(), out, formats, quantizations,
        run.load_validation_text(), describe_run(run), on_row,
    )  # fmt: skip


def export_model(
    model, tokenizer, out, formats=None, quantizations=DEFAULTS, validation_text=None, about=(),
    on_row=None,
):  # fmt: skip
    """Exports a model: each file is run in its own runtime, and held against the Keras model.

    Args:
        model: `GPT` or `EncoderDecoder`.
        tokenizer: `Tokenizer` that it was trained with.
        out: directory to write to.
        formats: some of `FORMATS`; None: all defaults that the model can have.
        quantizations: some of `QUANTIZATIONS`; each format takes those that it can have.
        validation_text: str that the model was not trained on; of a model of pairs, JSON Lines of
            pairs. None: text that the model samples. That shows as well whether a file computes
            what the model does, but not how good the model is: its loss is that of its own text.
        about: lines of the model card about the training.
        on_row: called with each row of the report as it is measured.

    Returns:
        list of dict, the rows of `report.json`: the Keras model first, then a row per file. Each
        has `file`, the fields of `parity.Measurement` and `bits_per_char`; files have `format`,
        `quantization`, `size_bytes`, `bytes_per_parameter` and, if timed, what `run_benchmark`
        returns.

    Raises:
        InputError: `out` cannot be written or holds something else under one of the names, the
            model cannot have a format, or what a format needs is not installed.
        VerificationError: a file does not compute what the Keras model computes.
        FailedError: the model computes no numbers.
    """
    out = pathlib.Path(out)
    files = _plan(model.config, formats, quantizations, out)
    tokenizer.check_vocab_size(model.config.vocab_size, "the model")
    model = _in_float32(model)
    text = _sample(model, tokenizer) if validation_text is None else validation_text
    reference, encoded = parity.encode_reference(model, text, tokenizer)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write to {out} ({error.strerror}): choose another --out"
        ) from None

    source, rows = Source(model, tokenizer, reference), []

    def add(name, measurement, **more):
        bits_per_char = encoded.bits_per_char(measurement.loss)
        row = {"file": name, **dataclasses.asdict(measurement), "bits_per_char": bits_per_char}
        rows.append({**row, **more})
        if on_row:
            on_row(rows[-1])

    add("(Keras)", parity.measure(keras_engine(model), reference))
    for name, quantization in files:
        row = FORMATS[name]
        path = out / row.file_name.format(quantization)
        with atomic_write(path) as partial:
            measurement = row.load_module().write(source, partial, quantization)
            parity.check(measurement, reference, quantization, path.name)
        size = _size_bytes(path)
        more = {"size_bytes": size, "bytes_per_parameter": size / model.count_params()}
        timed = run_benchmark(path) if row.is_timed else {}
        add(path.name, measurement, format=name, quantization=quantization, **more, **timed)
    write_json(out / REPORT, rows)
    if validation_text is None:
        about = [*about, "The losses below are on text that the model itself sampled."]
    write_model_card(out / CARD, model, tokenizer, rows, about, text)
    return rows


def _plan(config, formats, quantizations, out):
    """[(format, quantization)] of the files to write; raises what can be known before the work."""
    check_names("quantizations", quantizations, QUANTIZATIONS)
    formats, files = formats_for(config.architecture, formats), []
    for name in formats:
        FORMATS[name].load_module()
        files += [(name, quantization) for quantization in FORMATS[name].choose(quantizations)]
    names = [FORMATS[name].file_name.format(quantization) for name, quantization in files]
    check_replaceable([out / name for name in (*names, REPORT, CARD)])
    return files


def _in_float32(model):
    """The model, computing in float32 whatever it was trained in."""
    if model.dtype_policy.name == "float32":
        return model
    copy = type(model)(model.config, dtype="float32")
    copy.set_weights(model.get_weights())
    return copy


def _sample(model, tokenizer):
    if model.config.end_token_id is not None:
        raise InputError(
            "a model of pairs needs a validation_text to verify exports on: JSON Lines of pairs"
        )
    ids = generate_ids(keras_engine(model), [tokenizer.start_token_id], Sampler(), seed=0)
    ids = itertools.islice(ids, NUM_SAMPLED_TOKENS)
    return tokenizer.decode([i for i in ids if i != tokenizer.unk_token_id])


def _size_bytes(path):
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
