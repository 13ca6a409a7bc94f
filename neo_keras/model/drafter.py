"""The draft model of speculative decoding: guesses the model's next state without running it."""

import keras
from keras import ops

from neo_keras.model.weights import dense, initial_weights

DRAFTER_WIDTH = 256


@keras.saving.register_keras_serializable("neo_keras")
class Drafter(keras.layers.Layer):
    """Approximates the last block's output for one token more, at a small part of its cost.

    Applied to its own output it drafts some tokens, which the model verifies in one step
    (speculative decoding: Leviathan et al. 2023, arXiv:2211.17192; with a recurrent draft from the
    model's own last states: Zhang et al. 2024, arXiv:2403.09919).
    """

    def __init__(self, vocab_size, **kwargs):
        super().__init__(**kwargs)
        self.vocab_size = vocab_size

    def build(self, input_shape):
        hidden_dim = input_shape[-1]
        self.expand = dense(DRAFTER_WIDTH, "expand", self.dtype_policy)
        self.contract = dense(hidden_dim, "contract", self.dtype_policy)
        initializer = initial_weights(hidden_dim**-0.5)
        self.embedding = keras.layers.Embedding(
            self.vocab_size, DRAFTER_WIDTH, initializer, dtype=self.dtype_policy, name="embedding"
        )
        self.expand.build(input_shape)
        self.contract.build((*input_shape[:-1], DRAFTER_WIDTH))
        self.embedding.build(input_shape[:-1])

    def call(self, x, next_token_ids):
        """About what x would be after the next tokens.

        Args:
            x: [batch_size, seq_len, hidden_dim], what `GPT.logits` takes, or what this returned.
            next_token_ids: int32 [batch_size, seq_len].
        """
        # Not squared: of its own result, again and again, a square would grow without bounds.
        return x + self.contract(ops.relu(self.expand(x) + self.embedding(next_token_ids)))
