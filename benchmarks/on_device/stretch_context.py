"""Gives a run with learned positions a longer context, in minutes instead of hours.

Learned positions of a long context take long to learn from nothing. Here those of a short one stand
in it several times over; some steps on long windows sort them out. The drafter is trained anew.
"""

import argparse
import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))  # so that it runs uninstalled

from neo_keras.errors import InputError, one_line_errors
from neo_keras.native_logs import import_tensorflow

LEARNING_RATE = 5e-4


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("run", metavar="RUN", help="with learned positions")
    add("out", metavar="OUT", help="run directory to write")
    add("--times", type=int, default=4, help="as long as before [%(default)s]")
    add("--steps", type=int, default=200, help="of one window each [%(default)s]")
    return parser.parse_args()


def main(args):
    import_tensorflow()
    import keras
    import numpy as np

    from neo_keras.model.gpt import GPT
    from neo_keras.run_directory.directory import RunDirectory
    from neo_keras.training.dataset import training_dataset, validation_dataset
    from neo_keras.training.start import resume_run
    from neo_keras.training.train_drafter import train_drafter

    run, corpus = resume_run(args.run)
    if run.model_config.position != "learned":
        raise InputError(f"{args.run} has no learned positions: any other context will do")
    short = run.load_model()
    seq_len = args.times * run.model_config.max_seq_len
    config = dataclasses.replace(run.model_config, max_seq_len=seq_len)
    model = GPT(config)
    for variable, other in zip(model.weights, short.weights, strict=True):
        value = other.numpy()
        is_positions = variable is model.position_embedding.embeddings
        variable.assign(np.tile(value, (args.times, 1)) if is_positions else value)
    decay = keras.optimizers.schedules.PolynomialDecay(LEARNING_RATE, args.steps, 0.0)
    model.compile(
        keras.optimizers.AdamW(decay, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    text = corpus.training.token_ids
    model.fit(training_dataset(text, seq_len, 1, seed=1, steps=args.steps), shuffle=False)
    model.evaluate(validation_dataset(corpus.validation.token_ids, seq_len, batch_size=4))
    out = RunDirectory(args.out)
    tokenizer, text = run.load_tokenizer(), run.load_validation_text()
    training_config = dataclasses.replace(run.training_config, steps=args.steps, warmup_steps=0)
    out.create(config, training_config, run.data, tokenizer, text)
    out.save_best(model)
    if config.num_speculative_tokens:
        train_drafter(out, corpus)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
