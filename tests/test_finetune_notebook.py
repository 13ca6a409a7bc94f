"""The notebook on fine-tuning, run on a tiny model with a chat template. Offline."""

import json
import re

import nbformat
import pytest
from chat_templates import chat_tokenizer
from conftest import randomize
from notebook_runner import ROOT, check_no_outputs, execute, set_parameters, text_of

from neo_keras.config import ModelConfig

NOTEBOOK = ROOT / "notebooks" / "finetune.ipynb"
QUESTION, ANSWER = "what is it", "the end of it"


def test_stores_no_outputs():
    check_no_outputs(nbformat.read(NOTEBOOK, as_version=4))


def write_model(path):
    from neo_keras.model.gpt import GPT
    from neo_keras.weights.conversion import as_target, target_of
    from neo_keras.weights.huggingface import write_folder

    tokenizer = chat_tokenizer("chatml")
    shape = dict(num_layers=2, num_heads=3, hidden_dim=66, feed_forward_dim=37, max_seq_len=97)
    config = ModelConfig(tokenizer.vocab_size, activation="swiglu", qk_norm=False, **shape)
    model = GPT(config)
    randomize(model, seed=29)
    name, target = target_of(config, "huggingface")
    write_folder(path, name, as_target(model, target), tokenizer)


@pytest.mark.exhaustive
def test_it_learns_an_answer_and_writes_a_file(tmp_path):
    write_model(tmp_path / "base")
    rows = [
        {"messages": [{"role": "user", "content": f"{QUESTION}{mark}"},
                      {"role": "assistant", "content": ANSWER}]}
        for mark in ("", *(f" {i}" for i in range(12)))
    ]  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "talks.jsonl").write_text(lines, encoding="utf-8")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    set_parameters(
        notebook, MODEL="base", DATA="talks.jsonl", LORA_RANK=11, EPOCHS=60, BATCH_SIZE=3,
        SEQ_LEN=89, QUESTION=QUESTION,
    )  # fmt: skip
    # A random model learns with larger steps than one that was trained.
    (training,) = [cell for cell in notebook.cells if cell.id == "training"]
    training.source = training.source.replace(
        "epochs=EPOCHS,", "epochs=EPOCHS, learning_rate=1e-2,"
    )
    execute(notebook, tmp_path)
    assert "it converses" in text_of(notebook, "open")
    assert "validation loss" in text_of(notebook, "comparison")
    assert text_of(notebook, "answer") == ANSWER
    path = tmp_path / "my_model" / "export" / "model-int8.litertlm"
    assert re.search(r"model-int8\.litertlm: [\d.]+ MB, loss [\d.]+", text_of(notebook, "export"))
    assert str(path) in text_of(notebook, "download") and path.is_file()
