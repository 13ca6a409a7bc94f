"""What a run of adapters leaves as; folders of PEFT as they come in, and what is refused."""

import copy
import functools
import json
import os
import shutil
import struct

import numpy as np
import pytest
from folder_changes import change_json, change_tensors
from lora_runs import tune_here
from safetensors.numpy import load_file, save_file
from scripts import run_script
from tolerances import assert_close

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.export.exporter import export_pretrained, export_run
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.run_directory.base import load_adapter
from neo_keras.weights.open import is_pretrained, open_pretrained
from neo_keras.weights.peft import write_adapter

pytest_plugins = ["lora_fixtures"]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ADDITIONS = 2 * 2 * (22 + 24 + 22 + 31)
LEARNED = ModelConfig(32, position="learned")
IDS = np.random.default_rng(3).integers(32, size=(5, 19)).astype("int32")


@pytest.fixture
def folder(tuned, tmp_path):
    """A folder of PEFT beside its base."""
    write_adapter(tmp_path / "adapter", load_adapter(tuned))
    return tmp_path / "adapter"


def greedy_text(path):
    engine, tokenizer = load_engine(path)
    return "".join(generate_text(engine, tokenizer, "the ", 12, GREEDY))


def test_exports(tuned, base, tmp_path):
    """A `.tflite`, a SavedModel, a folder of transformers and one of PEFT write the same text."""
    formats = ["saved_model", "tflite", "huggingface", "peft"]
    rows = export_run(tuned, formats, ["float32"], tmp_path / "out")
    export_run(tuned, ["peft"], ["float32"], tmp_path / "out")  # what is ours is replaced
    names = ["(Keras)", "saved_model", "model-float32.tflite", "huggingface", "peft"]
    assert [row["file"] for row in rows] == names
    folders = [tmp_path / "out" / name for name in ("huggingface", "peft")]
    assert len({file.stat().st_mode for folder in folders for file in folder.iterdir()}) == 1
    expected = greedy_text(tuned.path)
    assert expected != greedy_text(base)
    for name in names[1:]:
        assert greedy_text(tmp_path / "out" / name) == expected, name
    assert rows[4]["size_bytes"] < rows[3]["size_bytes"]
    assert sorted(os.listdir(tmp_path / "out" / "peft")) == [
        "README.md", CONFIG, WEIGHTS
    ]  # fmt: skip
    config = json.loads((tmp_path / "out" / "peft" / CONFIG).read_text())
    assert config["base_model_name_or_path"] == str(base)
    assert config["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"
    ]  # fmt: skip
    assert (config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == (3, 6, False)


@pytest.mark.parametrize("rank", [3, None])
def test_a_longer_context_than_it_was_fine_tuned_with(base, text_file, tmp_path, rank):
    run, _ = tune_here(tmp_path / "run", base, text_file, max_seq_len=7, steps=3, lora_rank=rank)
    export_run(run, ["huggingface"], ["float32"], tmp_path / "out", max_seq_len=13)
    exported, tokenizer = load_engine(tmp_path / "out" / "huggingface")
    assert exported.max_seq_len == 13
    texts = [
        "".join(generate_text(engine, tokenizer, "the ", 4, GREEDY))  # what seven places hold
        for engine in (load_engine(run.path)[0], exported)
    ]
    assert texts[0] == texts[1]
    with pytest.raises(InputError, match="must be at most the context of .*, 19, got 20"):
        export_run(run, ["tflite"], ["float32"], tmp_path / "out", max_seq_len=20)


def test_contexts_that_stay(tuned, tmp_path):
    def refused(reason, **changes):
        run = copy.copy(tuned)
        vars(run).update(changes)
        with pytest.raises(InputError, match=reason):
            export_run(run, ["tflite"], ["float32"], tmp_path / "out", max_seq_len=7)

    refused("a model that was trained from scratch keeps its context", asked={})
    refused("that of what it was trained on, which cannot be read", asked={"pretrained": "/not"})
    refused("has learned a position for each place", model_config=LEARNED)


def test_a_whole_model_has_no_adapter(base, tmp_path):
    with pytest.raises(InputError, match="peft is for what train.py trained with --lora, and"):
        export_pretrained(open_pretrained(base), tmp_path / "out", ["peft"], ["float32"])
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_is_not_replaced(tuned, folder):
    (folder / "README.md").write_text("# mine\n")
    folder.rename(folder.parent / "peft")
    with pytest.raises(InputError, match="peft was not written by export.py"):
        export_run(tuned, ["peft"], ["float32"], folder.parent)


def test_an_adapter_comes_in(tuned, folder, base):
    assert is_pretrained(folder)
    model = open_pretrained(folder).load_model()
    assert_close(np.asarray(model(IDS)), np.asarray(tuned.load_model()(IDS)), ADDITIONS)
    shorter = open_pretrained(folder, 7)
    assert (shorter.config.max_seq_len, shorter.name) == (7, "adapter")
    assert shorter.sha256() != open_pretrained(base).sha256()


@pytest.mark.parametrize("place", ["adapter's folder", "working directory"])
def test_a_relative_base(folder, base, place, monkeypatch):
    start = folder if place == "adapter's folder" else base.parent
    with_config(base_model_name_or_path=os.path.relpath(base, start))(folder)
    monkeypatch.chdir(folder if place == "adapter's folder" else base.parent)
    assert open_pretrained(folder).file.folder.samefile(base)


def test_rslora(folder, tuned):
    """alpha / sqrt(rank) instead of alpha / rank."""
    with_config(use_rslora=True, lora_alpha=6 / 3**0.5)(folder)
    model = open_pretrained(folder).load_model()
    assert_close(np.asarray(model(IDS)), np.asarray(tuned.load_model()(IDS)), ADDITIONS)


def test_training_goes_on_from_an_adapter(folder, tuned, text_file, tmp_path):
    """Which is then a part of the base: with new adapters, or as a whole model."""
    run, _ = tune_here(tmp_path / "run", folder, text_file, steps=4)
    assert run.read_best()["val_loss"] <= tuned.read_best()["val_loss"] + 1e-4
    run.load_model()
    with pytest.raises(
        InputError, match="which is an adapter itself, and PEFT adds one to a whole"
    ):
        load_adapter(run)
    tensors = load_file(folder / WEIGHTS)
    save_file({name: array + 1 for name, array in tensors.items()}, folder / WEIGHTS)
    with pytest.raises(InputError, match="is not what the adapters of"):
        run.load_model()


@pytest.mark.parametrize("name", ["huggingface", "peft"])
def test_what_it_begins_from_is_not_replaced(tuned, base, text_file, tmp_path, name):
    """A run and its exports in one place, and a new one over both."""
    run = tmp_path / "run"
    shutil.copytree(tuned.path, run)
    export = run / "export" / name
    if name == "peft":
        write_adapter(make_parents(export), load_adapter(tuned))
    else:
        shutil.copytree(base, export)
    before = sorted(run.rglob("*"))
    (tmp_path / "link").symlink_to(run)
    for path in (run, tmp_path / "link"):
        with pytest.raises(InputError, match="is an export of the run .* choose another --run"):
            tune_here(path, export, text_file, overwrite=True)
    assert sorted(run.rglob("*")) == before
    tune_here(tmp_path / "other", export, text_file, steps=1)


def make_parents(path):
    path.parent.mkdir(parents=True)
    return path


with_config = functools.partial(change_json, CONFIG)
with_tensors = functools.partial(change_tensors, WEIGHTS)


def claim_too_much(folder):
    """A header of a gigabyte's matrix, of which nothing is there."""
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    header = {name: {"dtype": "F32", "shape": [3, 2**28], "data_offsets": [0, 12 * 2**28]}}
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text)


def as_pickle(folder):
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


HEAD = "base_model.model.lm_head"
UP = "base_model.model.model.layers.1.mlp.up_proj"
REFUSED = {
    "DoRA": (with_config(use_dora=True), "use_dora 'true', expected none, for neo_keras"),
    "ranks": (with_config(rank_pattern={"q_proj": 2}), "has the rank_pattern"),
    "alphas": (with_config(alpha_pattern={"q_proj": 2}), "has the alpha_pattern"),
    "modules": (with_config(modules_to_save=["lm_head"]), "has the modules_to_save"),
    "biases": (with_config(bias="all"), "has the bias 'all', expected 'none'"),
    "own bias": (with_config(lora_bias=True), "has the lora_bias"),
    "PiSSA": (with_config(init_lora_weights="pissa"), "has the init_lora_weights 'pissa'"),
    "another type": (with_config(peft_type="IA3"), "has the peft_type 'IA3', expected 'LORA'"),
    "another task": (with_config(task_type="SEQ_CLS"), "has the task_type 'SEQ_CLS'"),
    "of the future": (with_config(use_magic=3), "has the use_magic '3', expected none"),
    "no rank": (with_config(r=0), "has the r '0', expected an integer of at least 1"),
    "a huge rank": (with_config(r=10**400, use_rslora=True), "has the r '1000.*below 2..31"),
    "a huge alpha": (with_config(lora_alpha=10**400), "has the lora_alpha '1000.*below 2..31"),
    "an infinite weight": (with_config(lora_alpha=1e308), "has the lora_alpha '1e.308', expected"),
    "an odd rank": (with_config(r=True), "has the r 'true'"),
    "an odd alpha": (with_config(lora_alpha=float("nan")), "has the lora_alpha 'NaN', expected"),
    "another rank": (with_config(r=2), r"of the shape \(3, 31\), expected \(2, 31\)"),
    "no base": (with_config(base_model_name_or_path=None), "has the base_model_name_or_path"),
    "a lost base": (with_config(base_model_name_or_path="/not/there/"), "adds to '/not/there/'"),
    "a long name": (with_config(base_model_name_or_path="x" * 5000), "adds to 'xxx"),
    "itself": (with_config(base_model_name_or_path="."), "which is an adapter itself"),
    "an unknown name": (
        with_tensors(lambda t: t.update({f"{HEAD}.lora_A.weight": np.ones((3, 22), "float32")})),
        f"a tensor '{HEAD}.lora_A.weight', for which its base has no matrix",
    ),
    "DoRA's vectors": (
        with_tensors(lambda t: t.update({f"{UP}.lora_magnitude_vector": np.ones(31, "float32")})),
        "up_proj.lora_magnitud...', for which",
    ),
    "one side": (with_tensors(lambda t: t.pop(f"{UP}.lora_B.weight")), "has no .*lora_B.weight: "),
    "a wrong shape": (
        with_tensors(lambda t: t.update({f"{UP}.lora_B.weight": np.ones((30, 3), "float32")})),
        r"of the shape \(30, 3\), expected \(31, 3\)",
    ),
    "integers": (
        with_tensors(lambda t: t.update({f"{UP}.lora_B.weight": np.ones((31, 3), "int32")})),
        "numbers of type int32",
    ),
    "a pickle": (as_pickle, "as .bin, which is a pickle, and can run any code"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
    "too little": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]),
        "is damaged",
    ),
    "a claim": (claim_too_much, "is damaged"),
    "no JSON": (lambda folder: (folder / CONFIG).write_text("{"), f"{CONFIG} is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(folder, name):
    change, reason = REFUSED[name]
    change(folder)
    with pytest.raises(InputError, match=reason):
        open_pretrained(folder).load_model()


def test_a_base_of_a_hub_without_its_package(folder, monkeypatch):
    with_config(base_model_name_or_path="nobody/nothing")(folder)
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="hf://nobody/nothing needs the package huggingface_hub"):
        open_pretrained(folder)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lora", "4"], "error: --lora adds to weights that are there: give them with --from"),
        (["--from", "BASE", "--lora", "0"], "error: lora_rank must be at least 1, got 0"),
        (["--from", "BASE", "--lora", "3", "--optimizer", "muon"], "error: muon is for whole"),
        (["--from", "BASE", "--lora-targets", "all"], "error: --lora-targets is for adapters"),
    ],
)
def test_the_command_line(base, text_file, tmp_path, arguments, message):
    arguments = [str(base) if argument == "BASE" else argument for argument in arguments]
    result = run_script("train.py", "--data", text_file, *arguments, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(message)
    assert not (tmp_path / "runs").exists()


def test_the_scripts(base, text_file, tmp_path):
    """Train, generate, export, and generate again from the folder of PEFT."""
    train = ["--data", text_file, "--from", base, "--lora", 3, "--lora-alpha", 4, "--steps", 4]
    train += ["--lora-targets", "attention", "--run", "run", "--sample-every", 0, "--batch-size", 3]
    result = run_script("train.py", *train, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "LoRA of rank 3, alpha 4, targets attention: trains 960 parameters" in result.stdout
    result = run_script("export.py", "run", "--formats", "peft", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    texts = [
        run_script(
            "generate.py", path, "--prompt", "the ", "--greedy", "--max-tokens", 9, cwd=tmp_path
        )
        for path in ("run", "run/export/peft")
    ]
    assert [text.returncode for text in texts] == [0, 0]
    assert texts[0].stdout == texts[1].stdout and texts[0].stdout.startswith("the ")
