"""What is trained beside the next token's prediction: further tokens, and sharper predictions."""

import functools

import keras
import numpy as np
from keras import ops

from neo_keras.model.weights import initial_weights

AHEAD_WEIGHT = 0.3  # of the loss of the token after next; of the one after that, a half; a third


def training_model(model_class, config):
    """The class with what only training needs. Elsewhere it is as ever, and so is what it saves.

    From each position it also predicts `config.num_future_tokens` tokens after the next one, with
    an output layer of its own for each (Gloeckle et al. 2024, arXiv:2404.19737). That is for the
    gradients; the loss that is told is the next token's.

    What it trains is `config.loss_temperature` times as sharp as what the model then gives. Who
    reads a text many times grows too sure of what comes next; softer predictions have a lower loss
    on another text (Guo et al. 2017, arXiv:1706.04599).

    Args:
        model_class: `GPT` or `EncoderDecoder`.
        config: `TrainingConfig`.
    """
    lookahead, temperature = config.num_future_tokens or 0, config.loss_temperature or 1.0
    if not lookahead and temperature == 1:
        return model_class
    return _training_model(model_class, lookahead, temperature)


@functools.cache
def _training_model(model_class, lookahead, temperature):
    class Training(model_class):
        def _make_layers(self, config, dtype):
            super()._make_layers(config, dtype)
            if lookahead:
                self.ahead_unembedding = keras.layers.Dense(
                    lookahead * config.vocab_size,
                    use_bias=False,
                    kernel_initializer=initial_weights(),
                    dtype=dtype,
                    name="ahead_unembedding",  # an embedding is Adam's, and does not decay
                )

        def build(self, input_shape):
            super().build(input_shape)
            if lookahead:
                self.ahead_unembedding.build((None, None, self.config.hidden_dim))

        def call(self, inputs, training=False):
            if not (training and lookahead):
                return super().call(inputs, training)
            x = self.hidden(inputs, training)
            ahead = ops.cast(self.ahead_unembedding(x), "float32")
            return ops.concatenate([self.logits(x), ahead], axis=-1)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            loss = super().compute_loss
            if not training:
                return loss(x, y, y_pred, sample_weight, training)
            logits, ahead = ops.split(temperature * y_pred, [self.config.vocab_size], axis=-1)
            total = loss(x, y, logits, sample_weight)
            if lookahead:
                ahead = ops.reshape(ahead, (-1, y.shape[1], lookahead, self.config.vocab_size))
                weights = _weights(y.shape[1], sample_weight, lookahead)
                further = loss(x, _following(y, lookahead), ahead, weights)
                total += lookahead * (further - ops.stop_gradient(further))
            return total

        # What is copied or saved is the model itself.
        from_config = model_class.from_config

    return Training


def _following(rows, lookahead):
    """What follows in rows [batch_size, seq_len], past their end anything: [..., lookahead]."""
    return ops.stack([ops.roll(rows, -i, axis=1) for i in range(1, lookahead + 1)], axis=-1)


def _weights(seq_len, sample_weight, lookahead):
    """Of what `_following` gives: less further ahead, and 0 past the end."""
    ahead = np.arange(1, lookahead + 1)
    inside = np.arange(seq_len)[None, :, None] < seq_len - ahead  # [1, seq_len, lookahead]
    weights = (AHEAD_WEIGHT / ahead * inside).astype("float32")
    return weights if sample_weight is None else weights * _following(sample_weight, lookahead)
