"""Short documents in rows: what is it worth that attention stays within each (--document-mask)?"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # so that it runs uninstalled

from neo_keras.errors import one_line_errors
from neo_keras.native_logs import import_tensorflow

SEQ_LEN, BATCH_SIZE = 128, 16
SHAPE = dict(num_layers=3, num_heads=2, hidden_dim=64, max_seq_len=SEQ_LEN)
LIMITS = (16, 64, 128)  # characters of a document, at most
NUM_VALIDATED = 1000


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--steps", type=int, default=400, metavar="N", help="of each training [%(default)s]")
    add("--seeds", type=int, default=1, metavar="N", help="trainings of each kind [%(default)s]")
    return parser.parse_args()


def main(args):
    import_tensorflow()
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # each training has functions of its own, as it says
    from neo_keras.text.plays import load_plays
    from neo_keras.text.tokenizer import Tokenizer

    speeches = load_plays().split("\n\n")
    tokenizer = Tokenizer.characters_of("".join(speeches)).with_end_token()
    print("documents of the plays' speeches; loss of each validated document alone, in nats")
    for limit in LIMITS:
        training, validation = documents(speeches, limit, tokenizer)
        losses = {
            mask: [
                train(training, validation, mask, tokenizer.vocab_size, seed, args.steps)
                for seed in range(1, args.seeds + 1)
            ]
            for mask in (True, False)
        }
        means = {mask: sum(values) / len(values) for mask, values in losses.items()}
        num_examples = training.segments.max(axis=1).sum()
        share = len(training.token_ids) / num_examples / SEQ_LEN
        print(
            f"mean length {share:.2f} of the context: on {means[True]:.4f}, off "
            f"{means[False]:.4f}, difference {means[True] - means[False]:+.4f}",
            flush=True,
        )


def documents(speeches, limit, tokenizer):
    """(training, validation): `PackedExamples` of the beginnings of speeches."""
    import numpy as np

    from neo_keras.text.example_forms import DOCUMENT
    from neo_keras.text.packing import make_example, pack

    # Without the speaker, whose name alone would tell much of a short document.
    texts = [speech.split("\n", 1)[-1][: limit - 1] for speech in speeches]
    texts = [texts[i] for i in np.random.default_rng(1).permutation(len(texts))]
    examples = [make_example(DOCUMENT.encode(tokenizer, text)) for text in texts if text]
    parts = examples[NUM_VALIDATED:], examples[:NUM_VALIDATED]
    return [pack(part, SEQ_LEN, tokenizer) for part in parts]


def train(training, validation, document_mask, vocab_size, seed, steps):
    """The validation loss after a training from random weights."""
    from neo_keras.config import ModelConfig, TrainingConfig
    from neo_keras.training.dataset import packed_training_dataset, packed_validation_dataset
    from neo_keras.training.resolve import resolve
    from neo_keras.training.train_step import make_train_step

    model_config = ModelConfig(vocab_size, **SHAPE)
    config = TrainingConfig(
        batch_size=BATCH_SIZE, steps=steps, seed=seed, document_mask=document_mask,
        jit_compile=True, mixed_precision="float32",
    )  # fmt: skip
    train_step = make_train_step(model_config, resolve(model_config, config))
    settings = document_mask, BATCH_SIZE, seed, steps
    train_step.fit(packed_training_dataset(training, *settings), shuffle=False, verbose=0)
    return train_step.evaluate(packed_validation_dataset(validation), verbose=0)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
