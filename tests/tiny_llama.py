"""A tiny model of Llama's shape, written for other programs."""

import tiny_tokenizers
from conftest import randomize

from neo_keras.config import ModelConfig
from neo_keras.model.gpt import GPT
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.weights.conversion import as_target, target_of

SHAPE = dict(
    max_seq_len=19, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=6, hidden_dim=22,
    feed_forward_dim=31, activation="swiglu", qk_norm=False,
)  # fmt: skip


def make(form, **changes):
    """(name of its architecture, `GPT`, `Tokenizer`), as the functions that write take them."""
    tokenizer = Tokenizer(tiny_tokenizers.MAKE["char"]())
    model = GPT(ModelConfig(tokenizer.vocab_size, **{**SHAPE, **changes}))
    randomize(model, seed=23)
    name, target = target_of(model.config, form)
    assert name == "llama"
    return name, as_target(model, target), tokenizer
