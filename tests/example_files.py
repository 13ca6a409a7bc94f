"""Small corpora of examples, a tokenizer for them, and a folder with a model to train on."""

import json

import tiny_llama
import tiny_tokenizers

from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig

WORDS = "the we'll x_1 été 日本語 you".split()


def make_tokenizer(kind="bpe", **config):
    """With an end token, which its configuration names."""
    hf = Tokenizer(tiny_tokenizers.MAKE[kind]()).with_end_token()._hf
    return Tokenizer(hf, TokenizerConfig(eos_token="<|endoftext|>", **config))


def text(number, num_words):
    """Another one for each number, of so many words."""
    return " ".join(WORDS[number // 6**i % 6] for i in range(num_words))


def completions(count=30):
    return [
        {"prompt": text(i, 3), "completion": f" {text(7 * i, 3 + i % 5)}"} for i in range(count)
    ]


def write(path, records):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


def write_model(path, **changes):
    """A folder of Hugging Face's transformers, with random weights and an end token."""
    from conftest import randomize

    from neo_keras.config import ModelConfig
    from neo_keras.model.gpt import GPT
    from neo_keras.weights.conversion import as_target, target_of
    from neo_keras.weights.huggingface import write_folder

    tokenizer = make_tokenizer()
    model = GPT(ModelConfig(tokenizer.vocab_size, **{**tiny_llama.SHAPE, **changes}))
    randomize(model, seed=23)
    name, target = target_of(model.config, "huggingface")
    write_folder(path, name, as_target(model, target), tokenizer)
    return str(path)
