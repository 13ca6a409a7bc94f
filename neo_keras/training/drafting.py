"""Teaches a drafter to foresee what a trained model will say."""

import keras
from keras import ops

from neo_keras.training.dataset import training_dataset

MAX_STEPS = 500
TOKENS_PER_STEP = 512  # more steps help it, more tokens in each do not
LEARNING_RATE = 4e-3


def teach_drafter(run, corpus):
    """Trains the drafter of a run's best model, and nothing else.

    Args:
        run: `RunDirectory`, trained, of a model that has `num_drafts`.
        corpus: `TokenizedCorpus`.
    """
    model, config = run.load_model(), run.training_config
    steps = min(config.steps, MAX_STEPS)
    fit_drafter(model, corpus.training.token_ids, steps, config.seed)
    run.save_best(model)


def fit_drafter(model, token_ids, steps=MAX_STEPS, seed=1):
    """Trains `model.drafter`, and nothing else.

    At every position of a text it goes on from the model's own state, over the next `num_drafts`
    tokens as they are in the text, and learns to predict there what the model predicts.

    Args:
        model: `GPT` whose configuration has `num_drafts`.
        token_ids: of the training text, as `training_dataset` takes them.
        steps: of training.
        seed: of the order of the text.
    """
    seq_len = model.config.max_seq_len
    batch_size = max(TOKENS_PER_STEP // seq_len, 1)
    dataset = training_dataset(token_ids, seq_len, batch_size, seed, steps)
    schedule = keras.optimizers.schedules.PolynomialDecay(LEARNING_RATE, steps, 0.0)
    lesson = Lesson(model)
    lesson.compile(keras.optimizers.Adam(schedule), jit_compile=False)
    lesson.fit(dataset.map(lambda token_ids, _: token_ids), shuffle=False, verbose=0)
    model.trainable, model.drafter.trainable = True, False  # as they were


class Lesson(keras.Model):
    """A model that is to stay as it is, with its drafter, that is not.

    Args:
        model: `GPT`.
    """

    def __init__(self, model):
        super().__init__()
        model.trainable, model.drafter.trainable = False, True
        self.model = model

    def call(self, token_ids):
        """Adds up the losses of the drafts; token_ids: int32 [batch_size, seq_len]."""
        model, seq_len = self.model, token_ids.shape[1]
        num_drafts = min(model.config.num_drafts, seq_len - 1)
        length = seq_len - num_drafts
        states = model.hidden(token_ids)
        truth, x = ops.softmax(model.logits(states)), states[:, :length]
        for i in range(1, num_drafts + 1):
            x = model.drafter(x, token_ids[:, i : i + length])
            losses = keras.losses.categorical_crossentropy(
                truth[:, i : i + length], model.logits(x), from_logits=True
            )
            self.add_loss(ops.mean(losses))
        return x
