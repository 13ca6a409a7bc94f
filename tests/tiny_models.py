"""Models that take seconds to train and to export."""

import pathlib

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
ALPHABET = "\n abcdefghij"  # 12 characters; with the unknown token a vocabulary of 13
# A different number on every axis, so that no two can be swapped unseen. The context is longer
# than a prefill chunk: the end of a long prompt is taken in token by token.
SHAPE = dict(
    vocab_size=13, max_seq_len=97, num_layers=2, num_heads=5, hidden_dim=30,
    max_ngram=4, ngram_rows=211, ngram_dim=14, embedding_norm=True,
)  # fmt: skip
WORDS = ("abc ", "dcf ", "gg\n", "hij ", "ea ", "fade\n", "bi ", "jh ", "ce\n", "a\n\n", "igcab ")


def corpus_text(num_characters=5000):
    """Each word is followed by one of two: a tiny model learns some of it in a few steps."""
    rng = np.random.default_rng(7)
    words, word = [], 0
    for _ in range(num_characters // 2):
        words.append(WORDS[word])
        word = (3 * word + 1 + 4 * rng.integers(2)) % len(WORDS)
    return "".join(words)[:num_characters]


def unicode_text():
    """The same in letters of one to four bytes."""
    return corpus_text().translate(str.maketrans("abcdefghij", "aébßc日本d😀e"))


def make_run(path, steps=60, text=None, tokenizer=None, **changes):
    """A run whose model was fitted and saved as `train.py` does it, a few steps long."""
    from neo_keras.config import ModelConfig, TrainingConfig
    from neo_keras.run_directory.directory import RunDirectory
    from neo_keras.text.tokenizer import Tokenizer
    from neo_keras.training.dataset import training_dataset
    from neo_keras.training.resolve import resolve
    from neo_keras.training.train_step import make_train_step

    text, tokenizer = text or corpus_text(), tokenizer or Tokenizer.characters_of(ALPHABET)
    model_config = ModelConfig(**{**SHAPE, "vocab_size": tokenizer.vocab_size, **changes})
    training_config = TrainingConfig(
        batch_size=4, steps=steps, learning_rate=1e-2, jit_compile=False, steps_per_execution=1
    )
    seq_len = model_config.max_seq_len
    run = RunDirectory(path)
    run.create(model_config, training_config, {"sources": [], "sha256": ""}, tokenizer, text[-700:])
    train_step = make_train_step(model_config, resolve(model_config, training_config))
    dataset = training_dataset(tokenizer.encode(text), seq_len, 4, seed=11, steps=steps)
    train_step.fit(dataset, shuffle=False, verbose=0)
    run.save_best(train_step.model)
    return run
