"""A directory with one model in the forms that the engines of on_device read."""

import dataclasses
import json
import pathlib

import gpt2_weights
import numpy as np

from neo_keras.atomic_files import write_json
from neo_keras.config import ModelConfig
from neo_keras.errors import InputError

PROMPT_LEN = 10
CLASSIC_FIELDS = ("position", "norm", "norm_position", "activation", "use_bias", "qk_norm",
                  "tie_embeddings", "embedding_norm", "max_ngram")  # fmt: skip


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

    def prompt_ids(self):
        """list of int: of a run the beginning of its validation text, else any."""
        return json.loads(self.path("prompt.json").read_text())

    def reference(self):
        """(int [num_tokens], float32 [num_tokens, vocab_size]): Keras's greedy text, its logits."""
        reference = np.load(self.path("reference.npz"))
        return reference["token_ids"], reference["logits"]


def write_files(directory, size, max_seq_len, run, num_tokens, formats):
    """Writes the weights, random ones or a run's, in all forms.

    Args:
        directory: path of one that exists.
        size, max_seq_len: as `gpt2_weights.model_config` takes them.
        run: path of a run whose weights to take instead, or None.
        num_tokens: of the reference.
        formats: (class, quantization) of each engine of `decoders`.
    """
    from neo_keras.native_logs import import_tensorflow

    import_tensorflow()

    if run is None:
        config = gpt2_weights.model_config(size, max_seq_len)
        weights, prompt_ids = gpt2_weights.random_weights(config), list(range(1, PROMPT_LEN + 1))
        model = gpt2_weights.to_neo_keras(weights, config)
    else:
        model, prompt_ids = _load_run(run)
        weights = gpt2_weights.from_neo_keras(model)
    directory = pathlib.Path(directory)
    write_json(directory / "config.json", dataclasses.asdict(model.config))
    write_json(directory / "prompt.json", prompt_ids)
    files = Files(directory)
    np.savez(files.path("weights.npz"), **weights)
    token_ids, logits = _greedy(model, prompt_ids, num_tokens)
    np.savez(files.path("reference.npz"), token_ids=token_ids, logits=logits)
    for engine_class, quantization in formats:
        engine_class.write(files, model, weights, quantization)


def _load_run(path):
    """(model, prompt)."""
    from neo_keras.run_directory.directory import RunDirectory

    run = RunDirectory.open(path)
    config, shape = run.model_config, gpt2_weights.model_config("124m")
    others = [name for name in CLASSIC_FIELDS if getattr(config, name) != getattr(shape, name)]
    if others:
        raise InputError(
            f"{path} must have GPT-2's shape, for the other engines, and its {others[0]} is "
            f"{getattr(config, others[0])}: train it with --preset gpt2-124m"
        )
    prompt = run.load_validation_text()[: 2 * PROMPT_LEN]
    return run.load_model(), run.load_tokenizer().encode(prompt)[:PROMPT_LEN].tolist()


def _greedy(model, prompt_ids, num_tokens):
    from neo_keras.generation.keras_runner import keras_engine

    engine, token_id, rows = keras_engine(model), prompt_ids[-1], []
    engine.prefill(prompt_ids[:-1])
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
