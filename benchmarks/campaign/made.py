"""Runs and exports that nothing disturbs: what the others are compared with, and begin from."""

import json
import shutil

import runs
from processes import Process

DRAFTER = "training the drafter"
TOKENIZED = "different tokens"
EXPORT = ["export.py", "run", "--quantize", "int8"]
SAY = ["generate.py", "run", "--greedy", "--max-tokens", "12"]
MARKS = (TOKENIZED, DRAFTER)  # lines whose time is of interest


def commands(base):
    """{name: (name of what it begins from, or None; command line)}."""
    small, large, other = (base / f"{name}.txt" for name in ("small", "large", "other"))
    return {
        "trained": (None, runs.training(small)),
        "stopped": (None, runs.training(small, max_seconds="1e-9")),
        "tokenized": (None, runs.training(large, tokenizer="bpe", vocab_size=300, steps=4)),
        "drafted": (None, runs.training(small, num_speculative_tokens=2)),
        "other": (None, runs.training(other)),
        "said": ("trained", SAY),
        "said-other": ("other", SAY),
        "exported": ("trained", EXPORT),
        "exported-other": ("other", EXPORT),
    }


def write_texts(base):
    runs.write_text(base / "small.txt")
    runs.write_text(base / "large.txt", 40_000)
    runs.write_text(base / "other.txt", words=runs.OTHER_WORDS)
    words = [runs.WORDS[i % len(runs.WORDS)] for i in range(400)]
    pairs = [(" ".join(words[i : i + 3]), words[i][::-1]) for i in range(300)]
    lines = "".join(f"{source}\t{target}\n" for source, target in pairs)
    (base / "pairs.tsv").write_text(lines)
    lines = (json.dumps({"source": source, "target": target}) for source, target in pairs)
    (base / "pairs.jsonl").write_text("\n".join(lines))


def make(base, name):
    """Makes one of `commands` below `base`, and writes down when the `MARKS` came."""
    begin, command = commands(base)[name]
    path = base / name
    if begin:
        shutil.copytree(base / begin, path)
    else:
        path.mkdir()
    process = start(path, command)
    seconds = {}
    for mark in MARKS:
        if process.wait_for(mark):
            seconds[mark] = process.seconds_so_far
    if process.wait().code != 0:
        raise RuntimeError(f"{process.command}: exit code {process.code}: {process.errors}")
    seconds["end"] = process.seconds
    (path / "seconds.json").write_text(json.dumps(seconds))


def seconds_of(base, name):
    return json.loads((base / name / "seconds.json").read_text())


def copy(base, name, path):
    """Copies the run of something made, for a trial."""
    shutil.copytree(base / name / "run", path / "run")


def start(path, command, **options):
    """Starts a process in a directory, where its files of tokens and temporary files are, too."""
    (path / "tmp").mkdir(exist_ok=True)
    environment = {"XDG_CACHE_HOME": str(path / "cache"), "TMPDIR": str(path / "tmp")}
    return Process(path, command, environment, **options)


def said_by(base, name):
    """What `SAY` printed of something made."""
    return max((base / name).glob("*.out")).read_text()
