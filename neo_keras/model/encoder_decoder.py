"""The encoder-decoder: a source is read whole, both ways; then a target is written."""

import keras
from keras import ops

from neo_keras.model.attention import length_mask
from neo_keras.model.blocks import TransformerBlock, make_norm
from neo_keras.model.gpt import GPT, HISTORY

SOURCE_LENS = "source_lens"  # in a cache, beside source_k_i and source_v_i


@keras.saving.register_keras_serializable("neo_keras")
class EncoderDecoder(GPT):
    """A GPT whose blocks also attend to a source, which an encoder has read (Vaswani et al. 2017).

    The first token that the decoder takes in is the last one of the source. So a target begins
    where its source ends: of a text that is cut in two, or of a pair, whose source ends with a
    token for its end. Rotary positions count on from the source; the others begin anew.

    Encoder and decoder share the embeddings. As in PyTorch's `nn.Transformer`, each ends with a
    normalization, wherever the others stand.
    """

    has_encoder = True

    def _make_layers(self, config, dtype):
        super()._make_layers(config, dtype)
        self.source_dropout = keras.layers.Dropout(
            config.dropout, dtype=dtype, name="source_dropout"
        )
        self.encoder_blocks = [
            TransformerBlock(config, dtype=dtype, name=f"encoder_block_{i}")
            for i in range(config.num_layers)
        ]
        self.encoder_norm = make_norm(config, dtype=dtype, name="encoder_norm")

    def build(self, input_shape):
        for layer in (*self.encoder_blocks, self.encoder_norm):
            layer.build((None, None, self.config.hidden_dim))
        super().build(input_shape)

    def hidden(self, inputs, training=False):
        """As `GPT.hidden`, of the target.

        Args:
            inputs: dict, of `call`, too: `source_ids` and `source_lens`, as `encode` takes them;
                `token_ids`, int32 [batch_size, seq_len], what the decoder takes in.
        """
        token_ids = inputs["token_ids"]
        source = self.encode(inputs["source_ids"], inputs[SOURCE_LENS], training)
        positions = ops.arange(ops.shape(token_ids)[1], dtype="int32")
        return self.hidden_step(token_ids, positions, source, positions, training)[0]

    def encode(self, source_ids, source_lens, training=False):
        """Reads a source, once for all steps.

        Args:
            source_ids: int32 [batch_size, source_len], at most `max_seq_len` long.
            source_lens: int32 [batch_size], at least 1; what follows in a row is padding.

        Returns:
            dict, a part of the cache: `source_k_i` and `source_v_i`, what block i attends to, each
            [batch_size, num_kv_heads, source_len, head_dim]; `source_lens`; with n-grams, the
            history that the first ones of the target reach back to.
        """
        source_len = ops.shape(source_ids)[1]
        positions = ops.arange(source_len, dtype="int32")
        mask, rotation = length_mask(source_lens, source_len), None
        if self.config.position == "rope":
            rotation = ops.take(self.rotary_tables, positions, axis=0)
        # Dropout of n-grams is for those that a prediction follows: one call a step, too.
        x, _ = self._embed(source_ids, positions)
        x = self.source_dropout(x, training=training)
        for block in self.encoder_blocks:
            block = self._block_to_call(block, training)
            x, _ = block(x, mask, rotation=rotation, training=training)
        x = self.encoder_norm(x)
        source = {SOURCE_LENS: source_lens}
        if self.config.max_ngram > 1:
            source[HISTORY] = self._history(source_ids, source_lens)
        for i, block in enumerate(self.blocks):
            names = f"source_k_{i}", f"source_v_{i}"
            source.update(zip(names, block.cross_attention.keys_values(x, rotation)))
        return source

    def _history(self, source_ids, source_lens):
        """As `NgramEmbedding.empty_history`, but before it stands what precedes the last token."""
        num_before = self.config.max_ngram - 1
        places = ops.expand_dims(source_lens, 1) - 1 - num_before
        places = places + ops.arange(num_before, dtype="int32")  # [batch_size, num_before]
        before = ops.take_along_axis(source_ids, ops.maximum(places, 0), axis=1) + 1
        before = ops.where(places >= 0, before, 0)
        return ops.pad(before, ((0, 0), (0, self.config.max_seq_len)))

    def empty_cache(self, batch_size=1, max_seq_len=None):
        """As `GPT.empty_cache`, with what `encode` returns of a source without tokens."""
        whole = super().empty_cache(batch_size)
        whole.pop(HISTORY, None)
        source = {name.replace("kv_cache", "source"): zeros for name, zeros in whole.items()}
        source[SOURCE_LENS] = ops.zeros((batch_size,), dtype="int32")
        return {**super().empty_cache(batch_size, max_seq_len), **source}

    def _sources(self, cache):
        lens = cache[SOURCE_LENS]
        mask = length_mask(lens, ops.shape(cache["source_k_0"])[2])
        names = [(f"source_k_{i}", f"source_v_{i}") for i in range(self.config.num_layers)]
        # With positions: [batch_size, 1, seq_len]. Without a source, too, it must be in the table.
        offset = ops.expand_dims(ops.maximum(lens, 1), (1, 2)) - 1
        return [(cache[keys], cache[values], mask) for keys, values in names], offset


def model_class(config):
    """The class of the model that a configuration describes: `GPT` or `EncoderDecoder`."""
    return GPT if config.architecture == "decoder-only" else EncoderDecoder
