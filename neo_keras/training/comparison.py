"""What fine-tuning changed: the loss, samples before and after, and how much of them is copied."""

import gc
import itertools
import math

import rich
from rich.table import Table
from rich.text import Text

from neo_keras.errors import InputError
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.sampler import Sampler
from neo_keras.weights.open import open_pretrained

NUM_SAMPLES = 3
NUM_TOKENS = 60  # of a sample
MAX_SHOWN = 200  # characters of a prompt: of a long one the end
PROMPT_LEN = 40  # characters, at most, of a prompt from a plain text
COPY_LEN = 20  # characters: fewer are often the same by chance
MAX_SEARCHED_TOKENS = 2_000_000  # of the training text: a few seconds


def compare(run, corpus):
    """Prints how the best model of a fine-tuned `RunDirectory` differs from what it was before.

    Args:
        corpus: `TokenizedCorpus`.
    """
    before, after = run.read_history()[0]["val_loss"], run.read_best()["val_loss"]
    if after >= before:
        print(f"training made it no better: best.keras is the model as it was, loss {before:.4f}")
        return
    perplexities = f"perplexity {math.exp(before):,.3g} before, {math.exp(after):,.3g} after"
    print(f"validation loss {before:.4f} before training, {after:.4f} after ({perplexities})")
    print("samples of before and after follow, within a minute or two", flush=True)
    tokenizer = run.load_tokenizer()
    prompts = corpus.sample_prompts or prompts_of(run.load_validation_text())
    try:
        pretrained = open_pretrained(run.asked["pretrained"], run.model_config.max_seq_len)
        columns = [_samples(load, tokenizer, prompts)
                   for load in (pretrained.load_model, run.load_model)]  # fmt: skip
    except InputError as error:  # what it was may be gone by now
        print(f"no samples of before and after: {error}")
        return
    table = Table("prompt", "before", "after", show_lines=True)
    for prompt, *texts in zip(corpus.sample_questions or prompts, *columns):
        table.add_row(Text(prompt[-MAX_SHOWN:]), *map(Text, texts))
    rich.print(table)
    training_text = tokenizer.decode(corpus.training.token_ids[:MAX_SEARCHED_TOKENS])
    print(
        f"copied: {copied_share(columns[1], training_text):.0%} of the texts after training stands "
        f"word for word in the training text (parts of {COPY_LEN} characters)"
    )


def prompts_of(text):
    """Beginnings of lines at different places of a plain text: list of str."""
    lines = [line for line in text.splitlines() if line.strip()]
    chosen = [lines[len(lines) * i // NUM_SAMPLES] for i in range(NUM_SAMPLES)] if lines else [""]
    return [line[:PROMPT_LEN].rpartition(" ")[0] or line[:PROMPT_LEN] for line in chosen]


def _samples(load, tokenizer, prompts):
    """What a model writes after each prompt: list of str."""
    gc.collect()  # the model before it, whose parts refer to each other
    engine, sampler = keras_engine(load()), Sampler(temperature=0.8)
    return [
        "".join(generate_text(engine, tokenizer, prompt, NUM_TOKENS, sampler, seed))
        for seed, prompt in enumerate(prompts)
    ]


def copied_share(texts, training_text):
    """The share of all parts of `COPY_LEN` characters of texts that stand in another, 0 .. 1."""
    parts = itertools.chain.from_iterable(
        (text[i : i + COPY_LEN] for i in range(len(text) - COPY_LEN + 1)) for text in texts
    )
    found = [part in training_text for part in parts]
    return sum(found) / max(len(found), 1)
