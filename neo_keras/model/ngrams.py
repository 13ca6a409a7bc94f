"""Embeddings of the last few tokens together: an n-gram model for the price of a look-up."""

import keras
from keras import ops

from neo_keras.model.weights import dense

# Spreads n-grams over 2**14 .. 2**18 rows as evenly as chance would; times 2**18 it fits int32.
MULTIPLIER = 7001


@keras.saving.register_keras_serializable("neo_keras")
class NgramEmbedding(keras.layers.Layer):
    """The sum of a vector for the last 2 tokens, one for the last 3, and so on to `max_ngram`.

    All share one table, whose row is a hash of the n-gram (Roy et al. 2022, arXiv:2207.06366; Huang
    et al. 2025, arXiv:2501.16975). It starts at zero, so that an n-gram never met says nothing.

    Args:
        num_rows, ngram_dim: of the table; at most `config.MAX_NGRAM_ROWS` rows.
        dropout: of whole n-grams.
    """

    def __init__(self, max_ngram, num_rows, ngram_dim, hidden_dim, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.max_ngram = max_ngram
        self.num_rows = num_rows
        dtype = self.dtype_policy
        self.table = keras.layers.Embedding(num_rows, ngram_dim, "zeros", dtype=dtype, name="table")
        self.dropout = keras.layers.Dropout(
            dropout, noise_shape=(None, None, None, 1), dtype=dtype, name="dropout"
        )
        self.projection = dense(hidden_dim, "projection", dtype, ngram_dim**-0.5)

    def build(self, input_shape):
        self.table.build(input_shape)
        self.projection.build((None, None, self.table.output_dim))

    def call(self, token_ids, history=None, start=0, training=False):
        """Embeds the n-grams that end at each position.

        Args:
            token_ids: int32 [batch_size, seq_len].
            history: from `empty_history` or the previous call; None: nothing stands before.
            start: int32 scalar, the position of the first token.

        Returns:
            (x, history): [batch_size, seq_len, hidden_dim], and the new history.
        """
        num_before = self.max_ngram - 1
        tokens = token_ids + 1  # 0 is for the places before the first token
        if history is None:
            context = ops.pad(tokens, ((0, 0), (num_before, 0)))
        else:
            history = ops.slice_update(history, (0, start + num_before), tokens)
            offsets = ops.arange(num_before + ops.shape(tokens)[1], dtype="int32")
            context = ops.take(history, start + offsets, axis=1)
        x = self.table(self._rows(context))  # [batch_size, seq_len, max_ngram - 1, ngram_dim]
        x = ops.sum(self.dropout(x, training=training), axis=2)
        return self.projection(x), history

    def empty_history(self, batch_size, max_seq_len):
        """int32 zeros [batch_size, max_ngram - 1 + max_seq_len]."""
        return ops.zeros((batch_size, self.max_ngram - 1 + max_seq_len), dtype="int32")

    def _rows(self, context):
        """A row of the table for each n: [batch_size, seq_len, max_ngram - 1]."""
        num_before = self.max_ngram - 1
        seq_len = ops.shape(context)[1] - num_before
        rows = []
        for n in range(2, self.max_ngram + 1):
            row = n  # so that "aa" and "aaa" differ
            for distance in reversed(range(n)):
                first = num_before - distance
                row = (row * MULTIPLIER + context[:, first : first + seq_len]) % self.num_rows
            rows.append(row)
        return ops.stack(rows, axis=-1)
