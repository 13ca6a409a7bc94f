"""An encoder-decoder learns to reverse strings: how many held-out ones come out right, and when."""

import argparse
import pathlib
import random
import string
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # so that it runs uninstalled

from neo_keras.errors import InputError, one_line_errors
from neo_keras.native_logs import import_tensorflow

LENGTH = 20  # symbols of a string, of the 26 letters
NUM_PAIRS = 20_000
# The preset "transformer" is the paper's recipe. There are more pairs than the run sees: dropout
# would only slow it down.
CHANGES = {"max_seq_len": 24, "batch_size": 64, "dropout": 0.0, "eval_every": 100}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--steps", type=int, default=500, metavar="N", help="of training [%(default)s]")
    add("--strings", type=int, default=300, metavar="N", help="to hold out [%(default)s]")
    add("--seed", type=int, default=1, metavar="N", help="of weights and order [%(default)s]")
    return parser.parse_args()


def main(args):
    if args.strings < 1:
        raise InputError(f"strings must be at least 1, got {args.strings}")
    import_tensorflow()
    from neo_keras.training.start import start_run
    from neo_keras.training.trainer import train

    strings = random_strings(NUM_PAIRS + args.strings)
    held_out, pairs = strings[: args.strings], strings[args.strings :]
    with tempfile.TemporaryDirectory() as directory:
        data = pathlib.Path(directory) / "pairs.tsv"
        data.write_text("".join(f"{text}\t{text[::-1]}\n" for text in pairs))
        run, corpus = start_run(
            pathlib.Path(directory) / "run", [str(data)], "transformer", steps=args.steps,
            seed=args.seed, **CHANGES,
        )  # fmt: skip
        metrics, signal = train(run, corpus)
        if signal:
            sys.exit(128 + signal)
        right = count_right(run.path, held_out)
    print(
        f"{right} of {len(held_out)} held-out strings of {LENGTH} symbols reversed exactly "
        f"({right / len(held_out):.1%}) after {metrics['step']} steps, "
        f"{metrics['train_seconds']:.0f} s of training and {metrics['compile_seconds']:.0f} s of "
        "compilation"
    )


def random_strings(count):
    """Different strings, always the same."""
    rng, strings = random.Random(1), {}
    while len(strings) < count:
        strings["".join(rng.choices(string.ascii_lowercase, k=LENGTH))] = None
    return list(strings)


def count_right(path, strings):
    from neo_keras.generation.decoding import generate_text
    from neo_keras.generation.load import load_engine
    from neo_keras.generation.sampler import GREEDY

    engine, tokenizer = load_engine(path)
    written = ("".join(generate_text(engine, tokenizer, s, LENGTH + 1, GREEDY)) for s in strings)
    return sum(text == source[::-1] for text, source in zip(written, strings))


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
