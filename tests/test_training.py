"""Training end to end: a run that is stopped ends as if it never was."""

import csv
import json
import math
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from scripts import run_script
from short_runs import assert_resumes, different_arrays, read_checkpoint, train_here
from waits import HANG_SECONDS

from neo_keras.run_directory.directory import RunDirectory

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIGNAL_AT = ROOT / "tests" / "signal_at.py"
STEPS, EVAL_EVERY = 160, 40
# With one window in a batch, the cores are never shared, which only a new process can begin.
ARGUMENTS = (
    "--num-layers 1 --num-heads 2 --hidden-dim 20 --seq-len 17 --batch-size 1 --dropout 0.1 "
    f"--steps {STEPS} --eval-every {EVAL_EVERY} --sample-every 0 --device cpu "
    "--num-speculative-tokens 0 --compile off"
).split()


@pytest.fixture(scope="module")
def uninterrupted(corpus_file, tmp_path_factory):
    """The run directory of `train.py` that nothing happened to."""
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    result = subprocess.run(
        command(path, "--data", corpus_file, *ARGUMENTS),
        capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert f"step {STEPS:5,}" in result.stdout and f"generate.py {path}" in result.stdout
    return path


def command(path, *arguments):
    return [sys.executable, ROOT / "train.py", "--run", path, *arguments]


def run_train(path, *arguments):
    return run_script("train.py", "--run", path, *arguments)


def send_at(step, number, path, *arguments):
    """Runs `train.py` and signals it amid a step. Returns (exit code, stdout, stderr)."""
    result = subprocess.run(
        [sys.executable, SIGNAL_AT, str(int(number)), str(step), *command(path, *arguments)[1:]],
        capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    return result.returncode, result.stdout, result.stderr


def step_of(path):
    return int(read_checkpoint(path / "last.keras")["optimizer/vars/0"])


def read_rows(path, without=("train_seconds",)):
    with open(path / "history.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(file)]


def assert_same_end(path, expected):
    for name, num_arrays in (("last.keras", 36), ("best.keras", 12)):
        assert len(read_checkpoint(path / name)) == num_arrays
        assert different_arrays(path / name, expected / name) == []
    assert step_of(path) == STEPS


def contents(path):
    return {str(p.relative_to(path)): p.is_file() and p.read_bytes() for p in path.rglob("*")}


@pytest.mark.exhaustive
def test_killed_and_resumed(uninterrupted, corpus_file, tmp_path):
    path = tmp_path / "run"
    code, _, _ = send_at(EVAL_EVERY + 7, signal.SIGKILL, path, "--data", corpus_file, *ARGUMENTS)
    assert (code, step_of(path)) == (-signal.SIGKILL, EVAL_EVERY)
    result = run_train(path, "--resume")
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_end(path, uninterrupted)
    assert read_rows(path) == read_rows(uninterrupted)


@pytest.mark.exhaustive
def test_stopped_twice_and_resumed(uninterrupted, corpus_file, tmp_path):
    path = tmp_path / "run"
    arguments = ["--data", corpus_file, *ARGUMENTS]
    steps = []
    for number, code, step in ((signal.SIGTERM, 143, 7), (signal.SIGINT, 130, EVAL_EVERY + 7)):
        got, stdout, stderr = send_at(step, number, path, *arguments)
        assert (got, stderr) == (code, "")
        steps.append(step_of(path))
        assert f"{number.name}: saving after this step" in stdout
        assert f"saved step {steps[-1]}; go on: python train.py --run {path} --resume" in stdout
        assert json.loads((path / "metrics.json").read_text())["step"] == steps[-1]
        arguments = ["--resume"]
    assert 0 < steps[0] < steps[1] < STEPS
    assert all(step % EVAL_EVERY for step in steps)  # it did not wait for the next checkpoint
    result = run_train(path, "--resume")
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_end(path, uninterrupted)
    seconds = [float(row["train_seconds"]) for row in read_rows(path, without=())]
    assert seconds == sorted(seconds)  # those of all sessions together
    # Stopping adds a row without validation; the others are those of the uninterrupted run.
    rows = read_rows(path, without=("train_seconds", "train_loss"))
    assert [int(row["step"]) for row in rows if not row["val_loss"]] == steps
    evaluated = [row for row in rows if row["val_loss"]]
    assert evaluated == read_rows(uninterrupted, without=("train_seconds", "train_loss"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "already holds a run: continue it with --resume"),
        (["--resume", "--data", __file__], "the text is not the one that"),
        (["--resume", "--num-layers", "3"], "a resumed run keeps its num_layers"),
        (["--resume", "--steps", "7"], f"is at step {STEPS} already: train on with a larger"),
    ],
)
def test_a_finished_run_is_left_alone(uninterrupted, corpus_file, arguments, message):
    before = contents(uninterrupted)
    result = run_train(uninterrupted, *(arguments or ["--data", corpus_file]))
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1
    assert contents(uninterrupted) == before


def test_stopped_early_from_the_command_line(corpus_file, tmp_path):
    """With a learning rate that changes nothing, no validation is better than the first."""
    path = tmp_path / "run"
    settings = "--optimizer sgd --learning-rate 1e-30 --ema 0.9 --patience 2".split()
    result = run_train(path, "--data", corpus_file, *ARGUMENTS, *settings)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"loss at step {EVAL_EVERY}, in 2 validations" in result.stdout
    assert "next: " in result.stdout
    assert "--resume" not in result.stdout and step_of(path) == 3 * EVAL_EVERY


def test_the_drafter_is_taught_from_the_command_line(corpus_file, tmp_path):
    settings = "--num-speculative-tokens 2 --num-layers 1 --steps 20 --eval-every 10".split()
    result = run_train(tmp_path / "run", "--data", corpus_file, *ARGUMENTS, *settings)
    assert (result.returncode, result.stderr) == (0, "")
    assert "training the drafter" in result.stdout


def test_diverged_from_the_command_line(corpus_file, tmp_path):
    settings = "--optimizer sgd --learning-rate 1e30 --schedule wsd --warmup-steps 7".split()
    result = run_train(tmp_path / "run", "--data", corpus_file, *ARGUMENTS, *settings)
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: the loss is no finite number any more at step 40: ")


SHORT = dict(steps=13, eval_every=5, dropout=0.1)


@pytest.fixture(scope="module")
def short_run(corpus_file, tmp_path_factory):
    return train_here(tmp_path_factory.mktemp("short") / "run", corpus_file, **SHORT)[0]


def test_what_a_run_directory_holds(corpus_file, tmp_path, capsys):
    handler = signal.getsignal(signal.SIGINT)
    run, metrics = train_here(tmp_path / "run", corpus_file, steps=23, eval_every=7)
    assert signal.getsignal(signal.SIGINT) is handler
    assert {p.name for p in run.path.iterdir()} == {
        "config.json", "tokenizer.json", "validation.txt", "best.keras", "last.keras",
        "history.csv", "metrics.json", "loss.png", "logs", ".lock", ".export.lock",
    }  # fmt: skip
    assert {"id": run.id, **metrics} == json.loads((run.path / "metrics.json").read_text())
    rows = RunDirectory.open(run.path).read_history()
    assert [row["step"] for row in rows] == [7, 14, 21, 23]
    vocab_size = run.model_config.vocab_size
    assert math.log(vocab_size) > rows[0]["val_loss"] > rows[-1]["val_loss"] > 2
    assert rows[0]["train_loss"] > rows[-1]["train_loss"]
    assert (metrics["step"], metrics["best_step"]) == (23, 23)
    assert metrics["val_loss"] == metrics["best_val_loss"] == rows[-1]["val_loss"]
    assert metrics["val_bits_per_char"] == pytest.approx(metrics["val_loss"] / 0.6931472)
    ngrams = 53 * 32 + 32 * 20
    drafter = (2 * 20 + vocab_size) * 256
    # blocks, n-grams, ends, two norms
    assert metrics["num_params"] == 4840 + ngrams + 2 * 20 * vocab_size + 2 * 20 + drafter
    assert f" parameters ({53 * 32:,} in the n-gram table)" in capsys.readouterr().out
    assert metrics["tokens_per_second"] > 0 and metrics["train_seconds"] > 0
    assert step_of(run.path) == 23
    assert (run.path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in run.logs.iterdir()][0].startswith("events.out.tfevents")
    assert run.load_validation_text() == corpus_file.read_text()[5400:]


@pytest.mark.parametrize("tokenizer, vocab_size", [
    ("word", 29), ("bpe", 283), pytest.param("byte", None, marks=pytest.mark.exhaustive)
])  # fmt: skip
def test_bits_per_char_of_every_loss(corpus_file, tmp_path, tokenizer, vocab_size):
    run, metrics = train_here(
        tmp_path / "run", corpus_file, tokenizer=tokenizer, vocab_size=vocab_size,
        steps=10, eval_every=5, sliding_window_eval=True,
    )  # fmt: skip
    text, tokenizer = corpus_file.read_text(), run.load_tokenizer()
    for losses, bits, part in (
        ("val_loss", "val_bits_per_char", text[5400:]),
        ("best_val_loss", "best_val_bits_per_char", text[5400:]),
        ("val_loss_sliding", "val_bits_per_char_sliding", text[5400:]),
        ("train_loss", "train_bits_per_char", text[:5400]),
    ):
        token_ids = tokenizer.encode(part)
        known = [i for i in token_ids if i != tokenizer.unk_token_id]
        spelled = len(part) - sum(len(tokenizer.decode([i])) for i in known)
        spelled += len(token_ids) - len(known)  # the end of each
        expected = metrics[losses] / math.log(2) * len(token_ids) + 8 * spelled
        assert metrics[bits] == pytest.approx(expected / len(part))
    unknown = tokenizer.encode(text[5400:]) == tokenizer.unk_token_id
    assert metrics["val_unknown_share"] == pytest.approx(np.mean(unknown))
    assert (metrics["val_unknown_share"] > 0.05) == (tokenizer.kind == "word")


def test_max_seconds_stops_early_and_keeps_a_checkpoint(corpus_file, tmp_path):
    run, metrics = train_here(tmp_path / "run", corpus_file, steps=10**6, max_seconds=0.05)
    assert metrics["step"] == step_of(run.path) < 10**5
    assert 0.05 <= metrics["train_seconds"] < 5
    assert metrics["val_loss"] > 0 and run.best.exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "jit_compile, mixed_precision",
    [(True, "float32"), (False, "bfloat16")],
    ids=["XLA", "bfloat16"],
)
def test_same_seed_same_weights(corpus_file, tmp_path, jit_compile, mixed_precision):
    """Bit for bit, in the arithmetic of either fast path, with a resume in between."""
    settings = dict(dropout=0.1, ngram_dropout=0.1, ema=0.9,
                    jit_compile=jit_compile, mixed_precision=mixed_precision)  # fmt: skip
    assert_resumes(tmp_path, corpus_file, **settings)


def test_sliding_loss(corpus_file, tmp_path):
    run, metrics = train_here(tmp_path / "run", corpus_file, steps=20, sliding_window_eval=True)
    assert {"id": run.id, **metrics} == json.loads((run.path / "metrics.json").read_text())
    # A little context helps: the words are the same again and again.
    assert metrics["val_loss"] - 0.5 < metrics["val_loss_sliding"] < metrics["val_loss"]


def test_sampling_does_not_change_the_training(short_run, corpus_file, tmp_path):
    from neo_keras.generation.callback import SampleText
    from neo_keras.text.tokenizer import Tokenizer

    tokenizer, shown = Tokenizer.characters_of(corpus_file.read_text()), {}
    sample = SampleText(tokenizer, 5, shown.__setitem__, max_tokens=19)
    run, _ = train_here(tmp_path / "run", corpus_file, [sample], **SHORT)
    assert different_arrays(run.last, short_run.last) == []
    assert list(shown) == [5, 10] and {len(text) for text in shown.values()} == {19}


@pytest.mark.parametrize(
    "moment",
    [
        "save_last",
        pytest.param("write_history", marks=pytest.mark.exhaustive),
        pytest.param("save_best", marks=pytest.mark.exhaustive),
        pytest.param("write_metrics", marks=pytest.mark.exhaustive),
    ],
)
def test_killed_while_saving(short_run, corpus_file, tmp_path, monkeypatch, moment):
    calls = iter((getattr(RunDirectory, moment), None))  # the first succeeds, the second does not
    with monkeypatch.context() as patch, pytest.raises(TypeError):
        patch.setattr(RunDirectory, moment, lambda *args: next(calls)(*args))
        train_here(tmp_path / "run", corpus_file, **SHORT)
    run, _ = train_here(tmp_path / "run", corpus_file, resume=True)
    assert read_rows(run.path) == read_rows(short_run.path)
    assert different_arrays(run.best, short_run.best) == []
