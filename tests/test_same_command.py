"""The command of a run is accepted with --resume behind it."""

import sys

import pytest

import train as script
from neo_keras.errors import InputError
from neo_keras.presets import PRESETS
from neo_keras.text.tokenizer import make_tokenizer
from neo_keras.training.compute import this_machine
from neo_keras.training.launch import launch
from neo_keras.training.resolve import resolve

SMALL = "--num-layers 1 --num-heads 1 --hidden-dim 12 --seq-len 12 --num-speculative-tokens 0"
OPTIONS = [
    "--tokenizer char",
    "--tokenizer byte",
    "--tokenizer word",
    "--tokenizer word --vocab-size 3000",  # the text has fewer
    "--tokenizer bpe --vocab-size 270",
    "--tokenizer my.json",
    "--data pairs.tsv --preset transformer --tokenizer my.json",  # gets an end token
    "--data pairs.tsv --preset transformer --tokenizer bpe --vocab-size 290",
    "--data text.txt more.txt",
    "--architecture encoder-decoder",
    "--steps 30",
    "--epochs 0.1",
    "--max-seconds 9.5",
    "--batch-size 6 --gradient-accumulation-steps 2",
    "--dropout 0.1",
    "--optimizer sgd",
    "--optimizer adamw --learning-rate 1e-3 --warmup-steps 3 --schedule cosine",
    "--preset nanogpt-cpu --optimizer muon",
    "--ema 0.99 --seed 7",
    "--device cpu",
    "--compile auto",
    "--compile xla",
    "--compile off --mixed-precision bfloat16",
    "--mixed-precision float32 --remat",
    "--eval-every 7 --patience 2 --sliding-window-eval --sample-every 0",
]


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_corpus_text, pairs_file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(tiny_corpus_text * 3)
    (tmp_path / "more.txt").write_text(tiny_corpus_text)
    (tmp_path / "pairs.tsv").write_text(pairs_file.read_text())
    make_tokenizer("bpe", [tiny_corpus_text], 280).save(tmp_path / "my.json")


def start(monkeypatch, command):
    monkeypatch.setattr(sys, "argv", ["train.py", "--run", "run", *command.split()])
    run, corpus, *_ = launch(**script.parse_arguments())
    machine = this_machine()
    run.training_config = resolve(run.model_config, run.training_config, corpus, machine)
    run.save_config()
    return run


def accepted(monkeypatch, command):
    run = start(monkeypatch, command)
    again = start(monkeypatch, command + " --resume")
    assert again.model_config == run.model_config
    assert again.training_config == run.training_config
    return run


@pytest.mark.parametrize("options", OPTIONS)
def test_options(place, monkeypatch, options):
    data = "" if "--data" in options else " --data text.txt"
    accepted(monkeypatch, f"{SMALL} {options}{data}")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(place, monkeypatch, preset):
    data = "pairs.tsv" if preset == "transformer" else "text.txt"
    run = accepted(monkeypatch, f"--preset {preset} --data {data}")
    other = next(name for name in PRESETS if name != preset)
    with pytest.raises(InputError, match="a resumed run keeps its preset"):
        start(monkeypatch, f"--preset {other} --data {data} --resume")
    assert run.asked["preset"] == preset


def test_another_command_is_refused(place, monkeypatch, tiny_corpus_text):
    start(monkeypatch, f"{SMALL} --data text.txt --tokenizer word --vocab-size 3000")
    for change in ("--vocab-size 2999", "--tokenizer bpe", "--tokenizer my.json", "--seed 9",
                   "--compile off --mixed-precision bfloat16", "--preset nanogpt-cpu"):  # fmt: skip
        with pytest.raises(InputError, match="a resumed run keeps its"):
            start(monkeypatch, f"{change} --resume")
