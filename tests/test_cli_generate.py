"""generate.py and export.py as a person meets them."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from scripts import run_script
from tiny_models import ALPHABET, ROOT
from waits import HANG_SECONDS

from neo_keras.text.tokenizer import Tokenizer

pytest_plugins = ["export_fixtures"]

GENERATE = [sys.executable, str(ROOT / "generate.py")]  # for what only a process can meet


@pytest.fixture
def place(tmp_path, int8_tflite, tiny_run):
    """A working directory with all kinds of things that a person may name."""
    content = int8_tflite.read_bytes()
    (tmp_path / "model.tflite").write_bytes(content)
    (tmp_path / "truncated.tflite").write_bytes(content[: len(content) // 2])
    (tmp_path / "foreign.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    (tmp_path / "model.litertlm").write_bytes(b"LITERTLM")
    (tmp_path / "text.txt").write_text("abc\n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"ab\xff\0")
    (tmp_path / "folder").mkdir()
    for name in ("run", "damaged_run", "mixed_run"):
        shutil.copytree(tiny_run.path, tmp_path / name, ignore=shutil.ignore_patterns("export"))
    best = tmp_path / "damaged_run" / "best.keras"
    best.write_bytes(best.read_bytes()[: best.stat().st_size // 2])
    Tokenizer.characters_of("abcde").save(tmp_path / "mixed_run" / "tokenizer.json")
    return tmp_path


def generate(place, *args):
    return run_script("generate.py", "model.tflite", *args, cwd=place)


def files(path):
    return {p.relative_to(path): p.is_dir() or p.read_bytes() for p in path.rglob("*")}


def assert_refused(place, command, *words):
    before = files(place)
    code, out, err = run_script(*command.split(), cwd=place)
    assert re.fullmatch("error: [^\n]+\n", err), err
    assert [word for word in words if word not in err] == []
    assert (code, out) == (2, "")
    assert files(place) == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("missing.tflite", ["missing.tflite", "train.py"]),
        ("model.tflite --temperature -0.5", ["temperature", "-0.5"]),
        ("model.tflite --temperature nan", ["temperature", "nan"]),
        ("model.tflite --greedy --temperature 0.7", ["--temperature: not allowed", "--greedy"]),
        ("model.tflite --top-p 0", ["top-p", "got 0"]),
        ("model.tflite --top-k 0", ["top-k", "got 0"]),
        ("model.tflite --min-p 2", ["min-p", "got 2"]),
        ("model.tflite --repetition-penalty 0", ["repetition-penalty", "got 0"]),
        ("model.tflite --interactive --num-samples 2", ["--interactive", "--num-samples"]),
        ("model.tflite --max-tokens -1", ["got -1"]),
        ("model.tflite --num-samples -1", ["got -1"]),
        ("model.tflite --seed -1", ["seed", "got -1"]),
        ("model.tflite --prompt-file missing.txt", ["missing.txt"]),
        ("model.tflite --prompt-file binary", ["binary"]),
        ("model.tflite --prompt-file folder", ["folder"]),
        ("folder", ["folder", "not a run directory"]),
        ("text.txt", ["text.txt", "it is text, which train.py trains on"]),
        ("model.litertlm", ["model.litertlm", "litert-lm run"]),
        ("truncated.tflite", ["truncated.tflite"]),
        ("foreign.tflite", ["foreign.tflite", "export.py"]),
        ("mixed_run", ["mixed_run", "6 tokens", "13"]),
        ("damaged_run", ["best.keras", "damaged"]),
    ],
)
def test_generate_refuses(place, args, words):
    assert_refused(place, f"generate.py {args}", *words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("run --formats tflite,onnx", ["--formats", "saved_model,tflite,litertlm", "onnx"]),
        ("run --formats=", ["--formats"]),
        (
            "run --quantize int2",
            ["--quantize", "float16,int8,int8-weights,int4,int4-block32", "int2"],
        ),
        ("folder", ["folder", "not a run directory"]),
        ("missing", ["missing", "not a run directory"]),
        ("model.tflite", ["model.tflite", "not a run directory"]),
        ("run --out text.txt/below", ["text.txt/below", "--out"]),
    ],
)
def test_export_refuses(place, args, words):
    assert_refused(place, f"export.py {args}", *words)


def test_export_refuses_a_damaged_checkpoint(place):
    assert_refused(place, "export.py damaged_run", "best.keras", "damaged")


def test_export(place, small_run):
    shutil.copytree(small_run.path, place / "small")
    before = set(files(place))
    code, out, err = run_script(
        *"export.py small --formats tflite --quantize int8".split(), cwd=place
    )
    assert (code, err) == (0, "")
    assert "model-int8.tflite" in out
    export = {
        "small/export",
        "small/export/report.json",
        "small/export/README.md",
        "small/export/model-int8.tflite",
    }
    assert {str(path) for path in set(files(place)) - before} == export
    code, out, err = run_script("generate.py", "small/export/model-int8.tflite", "--greedy",
                                cwd=place)  # fmt: skip
    assert (code, err) == (0, "") and re.fullmatch(f"[{ALPHABET}]{{500}}\n", out)


def test_generate(place):
    before = files(place)
    code, out, err = generate(place, "--prompt", "abc", "--max-tokens", 30, "--seed", 5)
    assert (code, err) == (0, "")
    assert re.fullmatch(f"abc[{ALPHABET}]{{30}}\n", out)
    again = generate(place, "--prompt-file", "text.txt", "--max-tokens", 30, "--seed", 5)
    assert re.fullmatch(f"abc\n[{ALPHABET}]{{30}}\n", again[1])
    assert files(place) == before


def test_a_seed_writes_the_same_again(place):
    text = generate(place, "--max-tokens", 60, "--seed", 5)
    assert generate(place, "--max-tokens", 60, "--seed", 5) == text
    assert generate(place, "--max-tokens", 60, "--seed", 6) != text
    code, out, err = generate(place, "--max-tokens", 60)
    seed = re.fullmatch(r"\(--seed (\d+) writes this again\)\n", err)[1]
    assert generate(place, "--max-tokens", 60, "--seed", seed) == (0, out, "")


def test_samples_differ(place):
    code, out, err = generate(place, "--max-tokens", 40, "--num-samples", 2, "--prompt", "gg",
                              "--seed", 3)  # fmt: skip
    assert (code, err) == (0, "")
    one, two = out[:42], out[44:]
    assert out[42:44] == "\n\n" and len(two) == 43
    assert one.startswith("gg") and two.startswith("gg") and one != two.rstrip("\n")
    assert generate(place, "--max-tokens", 40, "--prompt", "gg", "--seed", 3)[1] == one + "\n"


def test_greedy(place):
    code, out, err = generate(place, "--max-tokens", 30, "--greedy")
    assert (code, err, len(out)) == (0, "", 31)  # with no seed, for there is no chance
    assert generate(place, "--max-tokens", 30, "--greedy", "--seed", 9) == (0, out, "")
    assert generate(place, "--max-tokens", 30, "--temperature", 0, "--seed", 1) == (0, out, "")


def test_stop(place):
    whole = generate(place, "--max-tokens", 60, "--seed", 5)[1]
    stop = whole[20:23]
    code, out, err = generate(place, "--max-tokens", 60, "--seed", 5, "--stop", stop)
    assert (code, err) == (0, "")
    assert out == whole[: whole.index(stop)] + "\n"


def test_several_stops(place):
    whole = generate(place, "--max-tokens", 60, "--seed", 5)[1]
    one, two = whole[20:23], whole[30:33]
    stops = ["--stop", two, "--stop", "never", "--stop", one, "--stop", ""]
    done = generate(place, "--max-tokens", 60, "--seed", 5, *stops)
    end = min(whole.index(one), whole.index(two))
    assert done == (0, whole[:end] + "\n", "")


def test_the_penalty_on_repetition(place):
    plain = generate(place, "--max-tokens", 60, "--greedy")[1]
    other = generate(place, "--max-tokens", 60, "--greedy", "--repetition-penalty", 3)[1]
    assert generate(place, "--max-tokens", 60, "--greedy", "--repetition-penalty", 1)[1] == plain
    assert other != plain


def test_unknown_characters_in_the_prompt(place):
    code, out, err = generate(place, "--prompt", "a€b", "--max-tokens", 10, "--seed", 1)
    assert err == "warning: the model has never seen '€': replaced by <unk>\n"
    assert code == 0
    assert re.fullmatch(f"a€b[{ALPHABET}]{{10}}\n", out)


def test_a_prompt_that_is_not_utf8(place):
    # As stdout is in a locale such as en_US.UTF-8.
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    command = [*GENERATE, "model.tflite", "--prompt", b"a\xff", "--max-tokens", "5", "--seed", "1"]
    done = subprocess.run(
        command, cwd=place, capture_output=True, env=environment, timeout=HANG_SECONDS
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
    assert done.stdout.endswith(b"\n") and len(done.stdout.decode()) == 8
    args = ["--prompt", b"a\xff", "--max-tokens", 5, "--seed", 1]
    assert generate(place, *args) == (0, done.stdout.decode(), done.stderr.decode())


def test_empty_prompt(place):
    code, out, err = generate(place, "--prompt", "", "--max-tokens", 10, "--seed", 1)
    assert (code, err, len(out)) == (0, "", 11)


def test_no_tokens(place):
    assert generate(place, "--prompt", "ab", "--max-tokens", 0, "--seed", 1) == (0, "ab\n", "")


def test_whoever_reads_may_stop_reading(place):
    command = [*GENERATE, "model.tflite", "--max-tokens", "100000", "--seed", "1"]
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert len(process.stdout.read(5)) == 5
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=HANG_SECONDS) == 141  # as a shell says of SIGPIPE


def test_ctrl_c(place):
    command = [*GENERATE, "model.tflite", "--max-tokens", "1000000", "--seed", "1"]
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=HANG_SECONDS)
        assert (process.returncode, err) == (130, b"error: interrupted\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk(place):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*GENERATE, "model.tflite", "--seed", "1"], cwd=place, stdout=full, stderr=-1
        )
    assert (done.returncode, done.stderr) == (1, b"error: No space left on device\n")
