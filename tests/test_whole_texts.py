"""What generate.py says stands before a text or after it, and a stop may be a line break."""

import contextlib
import io
import runpy
import sys
import warnings

import numpy as np
import pytest
from scripted_engine import ScriptedEngine, one_hot
from tiny_models import ALPHABET, ROOT

from neo_keras.errors import one_line_errors
from neo_keras.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.characters_of(ALPHABET)  # "a" is 2; after "j", the last one, comes "\n"


@pytest.fixture
def generate(monkeypatch):
    """Runs generate.py here, with an engine that says the alphabet; returns what a terminal has."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    script = runpy.run_path(str(ROOT / "generate.py"))

    def run(*arguments, logits_after=lambda held: one_hot((held[-1] + 1) % 12), code=None):
        engine = ScriptedEngine(max_seq_len=60, logits_after=logits_after)
        monkeypatch.setattr(
            "neo_keras.generation.load.load_engine", lambda *_, **__: (engine, TOKENIZER)
        )
        monkeypatch.setattr(sys, "argv", ["generate.py", "model", "--greedy", *arguments])
        terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        ended = pytest.raises(SystemExit) if code else contextlib.nullcontext()
        with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal), ended as e:
            with one_line_errors():
                script["write_samples"](script["parse_arguments"]())
        assert not code or e.value.code == code
        return terminal.buffer.getvalue().decode()

    return run


def test_a_text(generate):
    assert generate("--prompt", "ab", "--max-tokens", "3") == "abcde\n"
    assert generate("--prompt", "ab", "--max-tokens", "0") == "ab\n"
    two = generate("--prompt", "ab", "--max-tokens", "1", "--num-samples", "2")
    assert two == "abc\n\nabc\n"


def test_a_warning_stands_before_the_text(generate):
    warning = "warning: the model has never seen '€': replaced by <unk>\n"
    arguments = ("--prompt", "€b", "--max-tokens", "2", "--num-samples", "2")
    assert generate(*arguments) == warning + "€bcd\n\n€bcd\n"


@pytest.mark.parametrize("after", [0, 2])
def test_an_error_begins_a_line(generate, after):
    def diverged(held):
        return one_hot(held[-1] + 1) if len(held) <= after else np.full(13, np.nan)

    text = generate("--prompt", "a", logits_after=diverged, code=1)
    assert text.startswith("abc"[: 1 + after] + "\nerror: the model's logits are not finite")


def test_ctrl_c_begins_a_line(generate):
    def press(held):
        if len(held) == 3:
            raise KeyboardInterrupt
        return one_hot(held[-1] + 1)

    text = generate("--prompt", "a", logits_after=press, code=130)
    assert text == "abc\nerror: interrupted\n"


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (r"\n", "hij\n"),  # as a shell gives it
        ("\n", "hij\n"),  # as $'\n' or another program does
        (r"j\n ", "hi\n"),
        (r"\\n", "hij\n a\n"),  # a backslash and an n, which the model does not write
        (r"\t", "hij\n a\n"),
        ("never", "hij\n a\n"),
    ],
)
def test_a_stop_may_be_a_line_break(generate, stop, text):
    assert generate("--prompt", "h", "--max-tokens", "5", "--stop", stop) == text


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (r"a\nb", "a\nb"),
        (r"a\tb", "a\tb"),
        (r"a\\nb", r"a\nb"),
        (r"C:\dir\\", "C:\\dir\\"),
        ("a\\", "a\\"),
        ("plain", "plain"),
    ],
)
def test_escapes(argument, text):
    assert runpy.run_path(str(ROOT / "generate.py"))["unescaped"](argument) == text


def test_a_prompt_that_begins_with_a_dash(generate, monkeypatch, capsys):
    assert generate("--prompt=-a", "--max-tokens", "2").endswith("-abc\n")
    monkeypatch.setattr(sys, "argv", ["generate.py", "model", "--prompt", "-a"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "generate.py"))["parse_arguments"]()
    assert capsys.readouterr().err.startswith(
        "error: argument --prompt: expected one argument (one that begins with - is given as "
        "--prompt=-...); see"
    )
