"""A base of transformers' form, a text, and a run that fine-tuned adapters on it."""

import numpy as np
import pytest
import tiny_llama

from neo_keras.weights.huggingface import write_folder


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A folder of transformers, of Llama's shape."""
    path = tmp_path_factory.mktemp("base") / "llama"
    write_folder(path, *tiny_llama.make("huggingface"))
    return path


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    """Text of the letters that the tokenizer of `tiny_llama` knows."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    words = np.random.default_rng(4).choice(["the ", "été ", "we'll ", "日本語。", "x_1\n"], 900)
    path.write_text("".join(words), encoding="utf-8")
    return path


def tune_here(path, base, text_file, callbacks=(), resume=False, **changes):
    """Trains as `train.py --from` does, in this process. Returns (RunDirectory, signal)."""
    settings = dict(
        data=[str(text_file)], preset=None, overwrite=False, device="auto", strategy=None,
        tokenizer=None, compile="off", mixed_precision="float32", vocab_size=None,
    )  # fmt: skip
    if resume:
        settings |= {"data": [], "pretrained": None, "mixed_precision": "auto", "compile": "auto"}
    else:
        settings |= dict(
            pretrained=str(base), lora_rank=3, max_seq_len=None, steps=11, eval_every=4,
            sample_every=0, batch_size=3, dropout=0.1, patience=0, learning_rate=1e-2,
            steps_per_execution=1,
        )  # fmt: skip
    from neo_keras.training.launch import launch
    from neo_keras.training.trainer import train

    run, corpus, strategy, pretrained = launch(run=path, resume=resume, **{**settings, **changes})
    _, stopped_by = train(run, corpus, resume, callbacks, strategy, pretrained)
    return run, stopped_by


@pytest.fixture(scope="session")
def tuned(base, text_file, tmp_path_factory):
    """A run of 11 steps, undisturbed."""
    return tune_here(tmp_path_factory.mktemp("tuned") / "run", base, text_file)[0]
