"""A directory with one model in the forms that the engines of on_device.py read."""

import dataclasses
import json
import pathlib

import gpt2_weights
import numpy as np

from neo_keras.config import ModelConfig
from neo_keras.files import write_json

PROMPT_IDS = list(range(1, 11))


class Files:
    """The directory.

    Args:
        directory: its path.

    Attributes:
        config: `ModelConfig`.
    """

    def __init__(self, directory):
        self._directory = pathlib.Path(directory)
        self.config = ModelConfig(**json.loads(self.path("config.json").read_text()))

    def path(self, name):
        return self._directory / name

    def weights(self):
        """In the common form of `gpt2_weights`."""
        return dict(np.load(self.path("weights.npz")))

    def reference(self):
        """(int [num_tokens], float32 [num_tokens, vocab_size]): Keras's greedy text, its logits."""
        reference = np.load(self.path("reference.npz"))
        return reference["token_ids"], reference["logits"]


def write_files(directory, config, num_tokens, formats):
    """Draws the weights and writes them in all forms.

    Args:
        directory: path of one that exists.
        config: `ModelConfig`.
        num_tokens: of the reference.
        formats: (class, quantization) of each engine of `decoders`.
    """
    from neo_keras.quiet import import_tensorflow

    import_tensorflow()

    write_json(pathlib.Path(directory) / "config.json", dataclasses.asdict(config))
    files = Files(directory)
    weights = gpt2_weights.random_weights(config)
    np.savez(files.path("weights.npz"), **weights)
    model = gpt2_weights.to_neo_keras(weights, config)
    token_ids, logits = _greedy(model, num_tokens)
    np.savez(files.path("reference.npz"), token_ids=token_ids, logits=logits)
    for engine_class, quantization in formats:
        engine_class.write(files, model, weights, quantization)


def _greedy(model, num_tokens):
    from neo_keras.generation.keras_engine import KerasEngine

    engine, token_id, rows = KerasEngine(model), PROMPT_IDS[-1], []
    engine.prefill(PROMPT_IDS[:-1])
    for _ in range(num_tokens):
        rows.append(np.array(engine.decode(token_id)))
        token_id = int(rows[-1].argmax())
    logits = np.array(rows)  # [num_tokens, vocab_size]
    return logits.argmax(axis=-1), logits


def character_tokenizer(vocab_size):
    """Id i is one character: LiteRT-LM takes and gives text. What it does not know becomes id 0."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    from neo_keras.text.tokenizer import Tokenizer

    vocab = {chr(0x20000 + i): i for i in range(vocab_size)}
    hf_tokenizer = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token=chr(0x20000)))
    hf_tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    hf_tokenizer.decoder = decoders.Fuse()
    return Tokenizer(hf_tokenizer)
