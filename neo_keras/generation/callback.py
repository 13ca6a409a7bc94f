"""Shows what a model writes while it trains."""

import keras

from neo_keras.generation.decoding import generate_text
from neo_keras.generation.keras_runner import keras_engine
from neo_keras.generation.sampler import Sampler
from neo_keras.model.weights import averaged_weights


class SampleText(keras.callbacks.Callback):
    """Every so many steps, calls `show(step, text)` with a sample of the same random numbers.

    A sample continues the prompt or, of a model of pairs, is the target of this source.
    """

    def __init__(self, tokenizer, every, show, max_tokens=200, prompt=""):
        super().__init__()
        self._every, self._show = every, show
        self._arguments = tokenizer, prompt, max_tokens, Sampler(temperature=0.8)
        self._engine = None

    def on_train_begin(self, logs=None):
        self._last_step = int(self.model.optimizer.iterations.numpy())

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.optimizer.iterations.numpy())
        if step // self._every > self._last_step // self._every:
            # Its graph reads the model's variables: it follows the training.
            self._engine = self._engine or keras_engine(getattr(self.model, "model", self.model))
            with averaged_weights(self.model):
                text = "".join(generate_text(self._engine, *self._arguments))
            self._show(step, text)
        self._last_step = step
