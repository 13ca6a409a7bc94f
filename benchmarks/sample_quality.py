"""How a trained model's text looks in numbers: real words, and what it copies from the corpus."""

import argparse
import pathlib
import re
import sys

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.errors import one_line_errors
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import Sampler
from neo_keras.text.corpus import load_corpus, split_corpus

LENGTHS = (10, 20, 40)  # characters


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", help="a run directory or a .tflite file")
    add("--data", nargs="+", default=(), metavar="SOURCE", help="the text it was trained on, as "
        "train.py takes it [the plays]")  # fmt: skip
    add("--characters", type=int, default=5000, metavar="N", help="of each text [%(default)s]")
    add("--temperature", type=float, default=0.8, metavar="X", help="[%(default)s]")
    add("--seeds", type=int, default=3, metavar="N", help="how many texts [%(default)s]")
    return parser.parse_args()


def main(args):
    corpus = load_corpus(args.data)
    training_text, validation_text = split_corpus(corpus)
    engine, tokenizer = load_engine(args.model)
    sampler = Sampler(args.temperature)
    texts = {
        f"seed {seed}": "".join(
            generate_text(engine, tokenizer, "", args.characters, sampler, seed)
        )[: args.characters]
        for seed in range(1, args.seeds + 1)
    }
    # What people wrote and the model never saw, for comparison.
    texts["validation text"] = validation_text[: args.characters]
    vocabulary = set(words_of(corpus))
    known_grams = {length: grams_of(training_text, length) for length in LENGTHS}
    table = Table("text", "words in the corpus", *(f"{n} characters copied" for n in LENGTHS),
                  "longest copy")  # fmt: skip
    for name, text in texts.items():
        words = words_of(text)
        real = sum(word in vocabulary for word in words) / max(len(words), 1)
        copied = []
        for length in LENGTHS:
            grams = [text[i : i + length] for i in range(len(text) - length + 1)]
            copied.append(sum(g in known_grams[length] for g in grams) / max(len(grams), 1))
        table.add_row(name, f"{real:.1%}", *(f"{share:.1%}" for share in copied),
                      f"{longest_copy(text, training_text)} characters")  # fmt: skip
    rich.print(table)


def words_of(text):
    """Letters only, lower-cased."""
    return re.findall(r"[^\W\d_]+", text.lower())


def grams_of(text, length):
    return {text[i : i + length] for i in range(len(text) - length + 1)}


def longest_copy(text, source):
    """The length of the longest part of the text that stands in the source."""
    longest = 0
    for start in range(len(text)):
        while text[start : start + longest + 1] in source and start + longest < len(text):
            longest += 1
    return longest


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
