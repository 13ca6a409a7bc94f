"""What fine-tuning says at its end: before and after, and what is copied."""

import re

import pytest
from scripts import run_script

from neo_keras.run_directory.directory import RunDirectory
from neo_keras.training.comparison import copied_share, prompts_of

pytest_plugins = ["lora_fixtures"]


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        (["a line of twenty-four...."], 1.0),  # 25 characters: six parts, all there
        (["another of twenty-four..."], 0.0),
        (["too short"], 0.0),
        # 21 characters: the first 20 are copied, and no other 20.
        (["a line of twenty-fourX"[:20] + "X"], 0.5),
        (["a line of twenty-four....", "another of twenty-four..."], 0.5),
    ],
)
def test_copied_share(texts, share):
    assert copied_share(texts, "Here is a line of twenty-four.... And more.") == share


def test_prompts_are_beginnings_of_lines_at_different_places():
    text = "\n\n".join(f"line {i} has some words, and then still more of them" for i in range(9))
    assert prompts_of(text) == [f"line {i} has some words, and then still" for i in (0, 3, 6)]
    assert prompts_of("\n \n") == [""]
    assert prompts_of("x" * 50) == ["x" * 40] * 3


def test_train_says_what_changed(base, text_file, tmp_path):
    arguments = ["--data", text_file, "--from", base, "--run", "run", "--batch-size", 3]
    more = ["--epochs", 4, "--learning-rate", 0.01, "--sample-every", 0, "--patience", 0]
    result = run_script("train.py", *arguments, *more, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = RunDirectory.open(tmp_path / "run")
    first, *others = run.read_history()
    assert (first["step"], first["train_loss"]) == (0, None)
    assert len(others) in (5, 6)  # validations, and the last one at the last step
    best = min(row["val_loss"] for row in others)
    assert best < first["val_loss"]
    said = f"validation loss {first['val_loss']:.4f} before training, {best:.4f} after"
    assert said in result.stdout
    assert "before" in result.stdout
    assert re.search(r"copied: \d+% of the texts after training stands", result.stdout)


def test_where_training_made_it_no_better(base, text_file, tmp_path):
    arguments = ["--data", text_file, "--from", base, "--run", "run", "--batch-size", 3]
    result = run_script(
        "train.py", *arguments, "--steps", 2, "--learning-rate", 30, "--sample-every", 0,
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "training made it no better: best.keras is the model as it was" in result.stdout
    assert RunDirectory.open(tmp_path / "run").read_best()["step"] == 0
