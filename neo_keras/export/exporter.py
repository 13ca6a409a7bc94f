"""Writes a model in each asked form; a file takes its name once it is verified."""

import dataclasses
import itertools
import pathlib

from neo_keras.atomic_files import atomic_write, parse_json, remove_partial, write_json
from neo_keras.errors import InputError
from neo_keras.export import parity
from neo_keras.export.benchmark import run_benchmark
from neo_keras.export.formats import FORMATS, Source, check_names, formats_for, load_module
from neo_keras.export.model_card import describe_run, write_model_card
from neo_keras.export.quantization import DEFAULTS, QUANTIZATIONS
from neo_keras.generation.decoding import generate_ids
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.sampler import Sampler
from neo_keras.run_directory.base import load_adapter
from neo_keras.weights.open import open_pretrained

REPORT, CARD = "report.json", "README.md"
NUM_SAMPLED_TOKENS = 512  # to verify on, where there is no text


def export_run(
    run, formats=None, quantizations=DEFAULTS, out=None, on_row=lambda row: None, max_seq_len=None
):  # fmt: skip
    """As `export_model`, of the best model of a `RunDirectory`; `out` is None: its `export/`.

    Args:
        max_seq_len: another context than it was fine-tuned with; None: the same.
    """
    out = pathlib.Path(out or run.export)
    # Before a model is loaded.
    files = _plan(run.model_config, formats, quantizations, out, run.base is not None)
    config = run.model_config if max_seq_len is None else _with_context(run, max_seq_len)
    needs_adapter = any(FORMATS[name].needs_adapter for name, _ in files.values())
    return export_model(
        _in_float32(run.load_model(), config), run.load_tokenizer(), out, formats, quantizations,
        run.load_validation_text(), describe_run(run), on_row,
        load_adapter(run) if needs_adapter else None,
    )  # fmt: skip


def _with_context(run, max_seq_len):
    """A run's `ModelConfig` with another context, of those that its pretrained weights can have."""
    if not (pretrained := run.asked.get("pretrained")):
        raise InputError(
            "--seq-len is for weights of others, and what was trained on them: a model that was "
            "trained from scratch keeps its context; leave it out"
        )
    if run.model_config.position == "learned":
        raise InputError(
            f"{run.path} has learned a position for each place of its context, and keeps it: "
            "leave out --seq-len"
        )
    try:
        open_pretrained(pretrained)
    except InputError as error:
        raise InputError(
            f"the longest --seq-len of {run.path} is that of what it was trained on, which cannot "
            f"be read: {error}; put that back there, or leave out --seq-len"
        ) from None
    window = open_pretrained(pretrained, max_seq_len).config.window
    return dataclasses.replace(run.model_config, max_seq_len=max_seq_len, window=window)


def export_pretrained(
    pretrained, out, formats=None, quantizations=DEFAULTS, on_row=lambda row: None
):  # fmt: skip
    """As `export_model`, of a `weights.open.Pretrained`."""
    _plan(pretrained.config, formats, quantizations, pathlib.Path(out))
    about = [
        f"Weights: `{pretrained.name}`, which others trained. Its licence holds for these, too."
    ]
    return export_model(
        pretrained.load_model(), pretrained.tokenizer, out, formats, quantizations, None, about,
        on_row,
    )  # fmt: skip


def export_model(
    model, tokenizer, out, formats=None, quantizations=DEFAULTS, validation_text=None, about=(),
    on_row=lambda row: None, adapter=None,
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
        adapter: `weights.peft.Adapter` that was merged into the model, which the format peft is of.

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
    files = _plan(model.config, formats, quantizations, out, adapter is not None)
    tokenizer.check_vocab_size(model.config.vocab_size, "the model")
    model = _in_float32(model, model.config)
    text = _sample(model, tokenizer) if validation_text is None else validation_text
    reference, encoded = parity.encode_reference(model, text, tokenizer)
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_partial(out)
    except OSError as error:
        message = f"cannot write to {out} ({error.strerror}): choose another --out"
        raise InputError(message) from None
    rows, source = [], Source(model, tokenizer, reference, adapter)
    for name, measurement, more in _write_files(source, files):
        row = {"file": name, **dataclasses.asdict(measurement)}
        row |= {"bits_per_char": encoded.bits_per_char(measurement.loss), **more}
        rows.append(row)
        on_row(row)
    write_json(out / REPORT, rows)
    if validation_text is None:
        about = [*about, "The losses below are on text that the model itself sampled."]
    write_model_card(out / CARD, model, tokenizer, rows, about, text)
    return rows


def _plan(config, formats, quantizations, out, has_adapter=False):
    """{path: (format, quantization)} of the files; raises what can be known before the work."""
    check_names("quantizations", quantizations, QUANTIZATIONS)
    formats = formats_for(config.architecture, formats)
    for name in formats:
        if FORMATS[name].needs_adapter and not has_adapter:
            raise InputError(
                f"the format {name} is for what train.py trained with --lora, and this is a whole "
                "model: give other --formats, such as huggingface"
            )
        getattr(load_module(name), "check_config", lambda config: None)(config)
    files = {
        out / FORMATS[name].file_name.format(quantization): (name, quantization)
        for name in formats
        for quantization in FORMATS[name].choose(quantizations)
    }
    check_replaceable([*files, out / REPORT, out / CARD])
    return files


def check_replaceable(paths):
    """Raises `InputError` where something stands that `export.py` did not write."""
    for path in paths:
        if path.exists() and not _is_export(path):
            raise InputError(
                f"{path} was not written by export.py, which would replace it: move it away, or "
                "choose another --out"
            )


def _is_export(path):
    try:
        if path.is_dir():
            found = [*path.glob("config.json"), *path.glob("assets.extra/config.json")]
            configs = [parse_json(config.read_text("utf-8")) for config in found]
            names = [config.get("format", config.get("_name_or_path")) for config in configs]
            is_ours = any(name.startswith("neo_keras") for name in names)
            return is_ours or _is_our_card(path / CARD) or not any(path.iterdir())
        if path.name == CARD:
            return _is_our_card(path)
        if path.name == REPORT:
            return all("file" in row for row in parse_json(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return True  # nobody else has a file of such a name


def _is_our_card(path):
    title, _, _ = path.read_text(encoding="utf-8").partition("\n") if path.exists() else ("",) * 3
    return title.endswith(("exported with neo_keras", "trained with neo_keras"))


def _write_files(source, files):
    """Yields (name, `parity.Measurement`, dict of what else the report says) of each file."""
    yield "(Keras)", parity.measure(keras_engine(source.model), source.reference), {}
    for path, (name, quantization) in files.items():
        row = FORMATS[name]
        with atomic_write(path) as partial:
            measurement = load_module(name).write(source, partial, quantization)
            parity.check(measurement, source.reference, quantization, path.name)
        parts = [part for part in (path, *path.rglob("*")) if part.is_file()]
        size = sum(part.stat().st_size for part in parts)
        more = {"format": name, "quantization": quantization, "size_bytes": size}
        more["bytes_per_parameter"] = size / source.model.count_params()
        timed = run_benchmark(path) if row.is_timed else {}
        yield path.name, measurement, {**more, **timed}


def _in_float32(model, config):
    """A model that computes in float32, of a configuration that has the same variables."""
    if (model.dtype_policy.name, model.config) == ("float32", config):
        return model
    copy = type(model)(config, dtype="float32")
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
