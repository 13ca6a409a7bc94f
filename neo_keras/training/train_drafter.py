"""Trains a drafter to predict what a trained model will say."""

import math

import keras
import numpy as np
import rich
import tensorflow as tf
from keras import ops

from neo_keras.model.drafter import Drafter
from neo_keras.training.callbacks import StopOnSignal
from neo_keras.training.dataset import training_dataset

MAX_STEPS = 1000
TOKENS_PER_STEP = 512  # more steps help it, more tokens in each do not
LEARNING_RATE = 4e-3
MAX_STATES = 2**24  # numbers that are kept of what the model made of the text: 67 MB
CHUNK_LEN = 128  # tokens that it is trained on together


def train_drafter(run, corpus):
    """Trains the drafter of a run's best model, which has `num_speculative_tokens`, from new.

    Returns:
        The `signal.Signals` that ended it early, or None. What was learned until then is kept.
    """
    model, config, best = run.load_model(), run.training_config, run.read_best()
    keras.utils.set_random_seed(config.seed)
    drafter = Drafter(model.config.vocab_size)
    drafter.build((None, None, model.config.hidden_dim))
    model.drafter.set_weights(drafter.get_weights())
    steps, console = min(config.steps, MAX_STEPS), rich.get_console()
    console.print("training the drafter, which makes generation faster")
    stop = StopOnSignal(console)
    with stop.listening():
        loss = fit_drafter(model, corpus.training.token_ids, steps, config.seed, [stop])
    if math.isfinite(loss):
        run.save_best(model, best["step"], best["val_loss"], drafter_trained=not stop.signal)
    else:
        console.print("the drafter's training diverged: generation gives the same text, but slower")
    return stop.signal


def fit_drafter(model, token_ids, steps=MAX_STEPS, seed=1, callbacks=()):
    """Trains `model.drafter`, and nothing else, on token ids as `training_dataset` takes them.

    The `GPT` reads some of the text once. At every position the drafter goes on from its state,
    over the next `num_speculative_tokens` tokens as they are in the text, and learns to predict
    there what the model predicts.

    Returns:
        float, the mean loss of the last pass over what was read.
    """
    chunk_len = min(CHUNK_LEN, model.config.max_seq_len)
    batch_size = TOKENS_PER_STEP // chunk_len
    states, token_ids = _read(model, token_ids, steps * TOKENS_PER_STEP, chunk_len, seed)
    trainer = DrafterTrainer(model)
    decay = keras.optimizers.schedules.PolynomialDecay(LEARNING_RATE, steps, 0.0)
    optimizer = keras.optimizers.Adam(decay, clipnorm=1.0)
    trainer.compile(optimizer, jit_compile=False, steps_per_execution=10)
    epochs = -(-steps * batch_size // len(states))
    history = trainer.fit(
        (states, token_ids), batch_size=batch_size, epochs=epochs, callbacks=callbacks, verbose=0
    )
    model.trainable, model.drafter.trainable = True, False  # as they were
    return history.history["loss"][-1]


def _read(model, token_ids, num_tokens, chunk_len, seed):
    """(states, token_ids) of the text: [num_chunks, chunk_len, hidden_dim] and without the last."""
    seq_len, width = model.config.max_seq_len, model.config.hidden_dim
    num_tokens = min(num_tokens, MAX_STATES // width)
    batch_size = max(2048 // seq_len, 1)
    num_batches = -(-num_tokens // (batch_size * seq_len))
    dataset = training_dataset(token_ids, seq_len, batch_size, seed, num_batches)
    hidden, windows = tf.function(model.hidden), [rows for rows, _ in dataset]
    length = seq_len // chunk_len * chunk_len
    states = np.concatenate([hidden(rows)[:, :length] for rows in windows])
    token_ids = np.concatenate(windows)[:, :length]
    return states.reshape(-1, chunk_len, width), token_ids.reshape(-1, chunk_len)


class DrafterTrainer(keras.Model):
    """Trains the drafter of a `GPT`, which stays as it is otherwise."""

    def __init__(self, model):
        super().__init__()
        model.trainable, model.drafter.trainable = False, True
        self.model = model

    def call(self, inputs):
        """Adds up the losses of the drafts from each position of chunks, as `_read` makes them."""
        model, (states, token_ids) = self.model, inputs
        seq_len = token_ids.shape[1]
        num_drafts = min(model.config.num_speculative_tokens, seq_len - 1)
        length = seq_len - num_drafts
        truth, x = ops.softmax(model.logits(states)), states[:, :length]
        for i in range(1, num_drafts + 1):
            x, expected = model.drafter(x, token_ids[:, i : i + length]), truth[:, i : i + length]
            losses = ops.categorical_crossentropy(expected, model.logits(x), from_logits=True)
            self.add_loss(ops.mean(losses))
        return x
