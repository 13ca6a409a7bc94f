"""Mistakes at the command line of train.py: one line that says what is wrong, and no trace."""

import pathlib
import subprocess
import sys

import pytest
import tokenizers
from scripts import run_script
from tokenizers import models
from waits import HANG_SECONDS

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = ("train.py", "generate.py", "export.py")


WORD_PIECE = tokenizers.Tokenizer(models.WordPiece({"a": 0}, unk_token="[UNK]"))


@pytest.fixture
def place(tmp_path, tiny_corpus_text):
    """A directory with texts good and bad, from where the command runs."""
    (tmp_path / "good.txt").write_text(tiny_corpus_text)
    (tmp_path / "short.txt").write_text(tiny_corpus_text[:300])
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "latin1.txt").write_bytes("Où suis-je ?\n".encode("latin-1"))
    (tmp_path / "late.txt").write_bytes(b"text\n" * 500_000 + b"\xc3(")
    (tmp_path / "stories.jsonl").write_text('{"story": "Once"}\n{"story": 3}\n')
    WORD_PIECE.save(str(tmp_path / "bert.json"))
    (tmp_path / "damaged.json").write_text("{")
    (tmp_path / "folder").mkdir()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    return tmp_path


def contents(path):
    return {str(p.relative_to(path)): p.is_file() and p.read_bytes() for p in path.rglob("*")}


def assert_refused(done, *parts):
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.endswith("\n")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


GOOD = ["--data", "good.txt"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "nowhere.txt"], "got 'nowhere.txt', where there is no file"),
        (["--data", "*.md"], "got '*.md', where there is no file"),
        (["--data", "folder"], "got 'folder', where there is no file"),
        (["--data", "good.txt", "nowhere.txt"], "'nowhere.txt'"),
        (["--data", "empty.txt"], "got none in empty.txt"),
        (["--data", "blank.txt"], "got none in blank.txt"),
        (["--data", "image.png"], "binary or not UTF-8 at byte 0"),
        (["--data", "latin1.txt"], "binary or not UTF-8 at byte 1"),
        (["--data", "late.txt"], "UTF-8 text in late.txt, .* not UTF-8 at byte 2500000;"),
        (
            ["--data", "stories.jsonl"],
            "stories.jsonl, line 1: expected a column 'text', got 'story'",
        ),
        (
            ["--data", "stories.jsonl", "--column", "story"],
            "stories.jsonl, line 2: expected a text in 'story', got '3'; correct it",
        ),
        ([*GOOD, "--column", "story"], "column (--column) is of .jsonl, .* got good.txt: leave"),
        ([*GOOD, "--tokenizer", "words"], "tokenizer must be one of char, word, bpe, byte or the"),
        ([*GOOD, "--tokenizer", "no.json"], "got 'no.json', which is no file"),
        ([*GOOD, "--tokenizer", "damaged.json"], "damaged.json: expected a Hugging Face tokenizer"),
        (
            [*GOOD, "--tokenizer", "folder"],
            "folder: expected a tokenizer.json, got: Is a directory",
        ),
        ([*GOOD, "--tokenizer", "bert.json"], "bert.json: expected a WordPiece with a token for"),
        ([*GOOD, "--tokenizer", "bpe", "--vocab-size", "255"], "from 256 .* to 1048576, got 255"),
        ([*GOOD, "--tokenizer", "word", "--vocab-size", "1"], "from 2 .* got 1"),
        ([*GOOD, "--vocab-size", "300"], "is of word and bpe, .* the tokenizer char has a size"),
        ([*GOOD, "--tokenizer", "byte", "--vocab-size", "256"], "tokenizer byte has a size"),
        (
            [*GOOD, "--tokenizer", "bert.json", "--vocab-size", "9"],
            "tokenizer bert.json has a size",
        ),
        # 270 characters to train on, 30 to validate on
        (["--data", "short.txt"], "the validation part of the text must have at least 129"),
        (["--data", "short.txt", "--seq-len", "30"], "at least 31 tokens, got 30: give more"),
        (["--data", "short.txt", "--seq-len", "136"], "training part .* at least 272 .* got 270"),
        ([*GOOD, "--run", "good.txt"], "cannot write the run directory good.txt (Not a directory)"),
        ([*GOOD, "--run", "good.txt/run"], "cannot write the run directory good.txt/run"),
        ([*GOOD, "--run", "thesis"], "thesis holds files that are not a run's"),
        ([*GOOD, "--run", "thesis", "--overwrite"], "thesis holds files that are not a run's"),
        (["--run", "nowhere", "--resume"], "nowhere is not a run directory"),
        (["--run", "thesis", "--resume"], "thesis is not a run directory"),
        ([*GOOD, "--hidden-dim", "129"], "must be divisible by num_heads, got 129 and 2"),
        ([*GOOD, "--hidden-dim", "22"], "rotary positions need an even"),
        ([*GOOD, "--dropout", "1"], "dropout must be at least 0 and below 1, got 1.0"),
        ([*GOOD, "--steps", "0"], "steps must be at least 1, got 0"),
        ([*GOOD, "--batch-size", "-1"], "batch_size must be at least 1, got -1"),
        (
            [*GOOD, "--gradient-accumulation-steps", "0"],
            "gradient_accumulation_steps must be at least 1, got 0",
        ),
        ([*GOOD, "--epochs", "0"], "epochs must be above 0"),
        ([*GOOD, "--epochs", "inf"], "epochs must be above 0"),
        ([*GOOD, "--learning-rate", "nan"], "learning_rate must be above 0 and finite, got nan"),
        ([*GOOD, "--seed", "4294967296"], "seed must be"),
        ([*GOOD, "--ema", "1"], "ema must be at least 0 and below 1, got 1.0"),
        ([*GOOD, "--patience", "-1"], "patience must be at least 0, got -1"),
        ([*GOOD, "--warmup-steps", "1400"], "must be shorter than the training, got 1400 of 1400"),
        ([*GOOD, "--warmup-steps", "-1"], "warmup_steps must be at least 0, got -1"),
        ([*GOOD, "--device", "xpu"], "--device xpu: TensorFlow .* sees no XPU, for "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_line_and_nothing_written(place, arguments, message):
    before = contents(place)
    assert_refused(run_script("train.py", *arguments, cwd=place), *message.split(" .* "))
    assert contents(place) == before


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--preset", "gpt5"], "invalid choice: 'gpt5'"),
        (["--optimizer", "lion"], "invalid choice: 'lion'"),
        (["--schedule", "step"], "invalid choice: 'step'"),
        (["--mixed-precision", "fp16"], "invalid choice: 'fp16'"),
        (["--steps", "many"], "invalid int value: 'many'"),
        (["--steps", "5", "--epochs", "1"], "not allowed with argument"),
        (["--resume", "--overwrite"], "not allowed with argument"),
        (["--data"], "expected at least one argument"),
        (["--layers", "3"], "unrecognized arguments: --layers 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_that_argparse_refuses(place, arguments, message):
    before = contents(place)
    assert_refused(run_script("train.py", *arguments, cwd=place), message)
    assert contents(place) == before


@pytest.mark.parametrize("arguments", [["--data", "nowhere.txt"], ["--layers", "3"]], ids=str)
def test_in_a_process_of_its_own(place, arguments):
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *arguments],
        cwd=place, capture_output=True, text=True, timeout=HANG_SECONDS,
    )  # fmt: skip
    assert_refused(done)
    assert run_script("train.py", *arguments, cwd=place).stderr == done.stderr


WITHOUT_HEAVY_IMPORTS = """
import runpy, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "keras", "keras_hub", "jax", "torch"}:
            raise AssertionError(f"imports {name}")

sys.meta_path.insert(0, Refuse())
"""


def run_without_heavy_imports(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_HEAVY_IMPORTS + code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )


def test_the_import_blocker_blocks():
    result = run_without_heavy_imports("from neo_keras import GPT")
    assert result.returncode == 1 and "AssertionError: imports keras" in result.stderr


def test_importing_the_package_imports_no_framework():
    code = "import neo_keras; assert 'GPT' in dir(neo_keras); neo_keras.ModelConfig(13)"
    result = run_without_heavy_imports(code)
    assert (result.returncode, result.stderr) == (0, "")


def test_what_is_no_public_name():
    result = run_without_heavy_imports("import neo_keras; neo_keras.GPT5")
    assert "has no attribute 'GPT5'" in result.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_imports_no_framework(script):
    code = "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    result = run_without_heavy_imports(code, script, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: {script}")
