"""The language model: token ids in, the logits of the next token out."""

import dataclasses

import keras
from keras import ops

from neo_keras.config import ModelConfig, from_saved
from neo_keras.model.attention import (
    causal_mask,
    rotary_tables,
    segment_mask,
    segment_positions,
    sinusoidal_table,
    window_mask,
)
from neo_keras.model.blocks import TransformerBlock, make_norm
from neo_keras.model.drafter import Drafter
from neo_keras.model.generate import BatchGenerator
from neo_keras.model.ngrams import NgramEmbedding
from neo_keras.model.weights import initial_weights

HISTORY = "kv_cache_k_tokens"  # in a cache, the tokens themselves


@keras.saving.register_keras_serializable("neo_keras")
class GPT(keras.Model):
    """A decoder-only transformer of a `ModelConfig`, trained with `fit` and decoded with `step`."""

    has_encoder = False
    remat = False  # in training, keep the inputs of the blocks only: less memory, more time

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self._generator = BatchGenerator(self)
        self._make_layers(config, self.dtype_policy.name)
        self.build((None, config.max_seq_len))

    def _make_layers(self, config, dtype):
        # Without reverse_dtype, the output head of a bfloat16 model is float32.
        self.token_embedding = keras.layers.ReversibleEmbedding(
            config.vocab_size, config.hidden_dim, config.tie_embeddings, initial_weights(),
            reverse_dtype=self.compute_dtype, dtype=dtype, name="token_embedding",
        )  # fmt: skip
        if config.max_ngram > 1:
            self.ngram_embedding = NgramEmbedding(
                config.max_ngram, config.ngram_rows, config.ngram_dim, config.hidden_dim,
                config.ngram_dropout, dtype=dtype, name="ngram_embedding",
            )  # fmt: skip
        if config.position == "learned":
            self.position_embedding = keras.layers.Embedding(
                config.max_seq_len, config.hidden_dim, initial_weights(), dtype=dtype,
                name="position_embedding",
            )  # fmt: skip
        elif config.position == "sinusoidal":
            self.sinusoidal_table = sinusoidal_table(config.max_seq_len, config.hidden_dim)
        else:
            self.rotary_tables = rotary_tables(
                config.window_len, config.head_dim, config.rope_base, config.rotary_dim
            )
        if config.embedding_norm:
            self.embedding_norm = make_norm(config, dtype=dtype, name="embedding_norm")
        self.dropout = keras.layers.Dropout(config.dropout, dtype=dtype, name="dropout")
        self.blocks = [
            TransformerBlock(config, self.has_encoder, dtype=dtype, name=f"block_{i}")
            for i in range(config.num_layers)
        ]
        self.final_norm = make_norm(config, dtype=dtype, name="final_norm")
        if config.num_speculative_tokens:
            self.drafter = Drafter(config.vocab_size, dtype=dtype, name="drafter")

    def build(self, input_shape):
        for layer in self.layers:
            if not layer.built:  # as those of an encoder are
                takes_ids = isinstance(layer, (keras.layers.Embedding, NgramEmbedding))
                hidden_shape = (None, None, self.config.hidden_dim)
                layer.build(input_shape if takes_ids else hidden_shape)
        if self.config.num_speculative_tokens:
            # `fit` leaves it alone: it learns from a trained model, see `train_drafter`.
            self.drafter.trainable = False
        self.built = True

    def call(self, inputs, training=False):
        """The logits at every position, as `fit` needs them.

        Args:
            inputs: token ids, int32 [batch_size, seq_len], seq_len at most `max_seq_len`; or, where
                a row holds several texts, a dict of `token_ids` and `segment_ids`, both of that
                shape. Tokens of one text stand side by side, and have a number of their own.

        Returns:
            float32 [batch_size, seq_len, vocab_size]: position i predicts token i + 1.
        """
        return self.logits(self.hidden(inputs, training))

    def hidden(self, inputs, training=False):
        """As `call`, but with what `logits` takes: [batch_size, seq_len, hidden_dim]."""
        is_packed = isinstance(inputs, dict)
        token_ids = inputs["token_ids"] if is_packed else inputs
        segment_ids = inputs["segment_ids"] if is_packed else None
        positions = ops.arange(ops.shape(token_ids)[1], dtype="int32")
        return self.hidden_step(token_ids, positions, {}, positions, training, segment_ids)[0]

    def generate(self, prompts, max_length=None, sampler="top_k", stop_token_ids=None):
        """Continues a batch of texts, in one compiled function for each sampler and shape.

        Args:
            prompts: sequences of token ids, of any lengths; of an encoder-decoder, sources.
            max_length: tokens of a text with its prompt or, of an encoder-decoder, of a target with
                the token that it begins after; None: `max_seq_len`.
            sampler: one of `generate.SAMPLERS`, or an object of `keras_hub.samplers`.
            stop_token_ids: end a text, and are not part of it; None: `config.end_token_id`, if any.

        Returns:
            list of lists of int: the texts, prompt included; of an encoder-decoder, the targets.

        Raises:
            InputError: there is no such sampler, or a prompt is empty or too long.
        """
        return self._generator(prompts, max_length, sampler, stop_token_ids)

    def step(self, token_ids, positions, cache, key_positions=None):
        """Continues a sequence whose past is in the cache, by one token or by many.

        Args:
            token_ids: int32 [batch_size, seq_len].
            positions: int32 [seq_len], consecutive; the last one below `max_seq_len`.
            cache: from `empty_cache` or the previous step; room for the positions is enough.
            key_positions: int32, 0 .. slots in the cache - 1; None: as many as `max_seq_len`.

        Returns:
            (logits, cache): float32 [batch_size, seq_len, vocab_size], and the new cache, whose
            slots after the last position are never seen.
        """
        x, cache = self.hidden_step(token_ids, positions, cache, key_positions)
        return self.logits(x), cache

    def verify(self, token_ids, positions, cache, noise, key_positions=None):
        """As `step`, and drafts what follows the token that is sampled after each token.

        Args:
            noise: float32 [seq_len + num_speculative_tokens, vocab_size], of `Sampler.noise`.

        Returns:
            (logits, drafts, cache): drafts int32 [batch_size, seq_len, num_speculative_tokens].
        """
        x, cache = self.hidden_step(token_ids, positions, cache, key_positions)
        seq_len, logits = token_ids.shape[1], self.logits(x)
        drafts = [_most_likely(logits + noise[:seq_len])]
        for i in range(1, self.config.num_speculative_tokens + 1):
            x = self.drafter(x, drafts[-1])
            drafts.append(_most_likely(self.logits(x) + noise[i : seq_len + i]))
        return logits, ops.stack(drafts[1:], axis=-1), cache

    def logits(self, x):
        """The logits, float32, of what `hidden` returns."""
        return ops.cast(self.token_embedding(x, reverse=True), "float32")

    def empty_cache(self, batch_size=1, max_seq_len=None):
        """What `step` keeps of a sequence, all zeros and named as LiteRT-LM wants it.

        Returns:
            dict: `kv_cache_k_i` and `kv_cache_v_i` for block i, each [batch_size, num_kv_heads,
            max_seq_len, head_dim]; with n-grams also `kv_cache_k_tokens`, of `empty_history`.
        """
        config = self.config
        max_seq_len = max_seq_len or config.max_seq_len
        shape = (batch_size, config.num_kv_heads, max_seq_len, config.head_dim)
        zeros = ops.zeros(shape, dtype=self.compute_dtype)
        cache = {f"kv_cache_{kind}_{i}": zeros for i in range(config.num_layers) for kind in "kv"}
        if config.max_ngram > 1:
            cache[HISTORY] = self.ngram_embedding.empty_history(batch_size, max_seq_len)
        return cache

    def hidden_step(
        self, token_ids, positions, cache, key_positions=None, training=False, segment_ids=None
    ):
        """As `step`, but with what `logits` takes: [batch_size, seq_len, hidden_dim].

        segment_ids: as `call` takes them, where there is no cache; None: a row is one text.
        """
        if key_positions is None:
            key_positions = ops.arange(self.config.max_seq_len, dtype="int32")
        x, history = self._embed(token_ids, positions, cache.get(HISTORY), training, segment_ids)
        new_cache = {**cache, HISTORY: history} if self.config.max_ngram > 1 else {**cache}
        x = self.dropout(x, training=training)
        rotation, masks = None, [causal_mask(positions, key_positions)]
        if segment_ids is not None:
            masks[0] = masks[0] + segment_mask(segment_ids)
        if self.config.window:  # of each second layer
            masks.append(masks[0] + window_mask(positions, key_positions, self.config.window))
        sources, offset = self._sources(cache)
        if self.config.position == "rope":
            rotation = ops.take(self.rotary_tables, positions + offset, axis=0)
        for i, block in enumerate(self.blocks):
            names = f"kv_cache_k_{i}", f"kv_cache_v_{i}"
            held = tuple(cache[name] for name in names) if names[0] in cache else None
            x, keys_values = self._block_to_call(block, training)(
                x, masks[i % len(masks)], rotation=rotation, cache=held, start=positions[0],
                source=sources[i], training=training,
            )  # fmt: skip
            new_cache.update(zip(names, keys_values))
        return self.final_norm(x), new_cache

    def _sources(self, cache):
        """(what each block takes for a source, how far into the whole text position 0 is)."""
        return [None] * len(self.blocks), 0

    def _block_to_call(self, block, training):
        return block.rematerialized if training and self.remat else block

    def _embed(self, token_ids, positions, history=None, training=False, segment_ids=None):
        """(x, history): what goes into the first block, but for dropout."""
        config, start = self.config, positions[0]
        if segment_ids is not None:
            # Of what is added to tokens: rotary positions are relative. N-grams do cross: those of
            # the first few tokens of a text reach back into the text before it.
            positions = segment_positions(segment_ids)  # [batch_size, seq_len]
        x = self.token_embedding(token_ids)  # [batch_size, seq_len, hidden_dim]
        if config.max_ngram > 1:
            ngrams, history = self.ngram_embedding(token_ids, history, start, training=training)
            x = x + ngrams
        if config.position == "learned":
            x = x + self.position_embedding(positions)
        elif config.position == "sinusoidal":
            # Scaled as in section 3.4 of Vaswani et al.: else the positions drown the tokens.
            rows = ops.take(self.sinusoidal_table, positions, axis=0)
            x = x * config.hidden_dim**0.5 + ops.cast(rows, x.dtype)
        if config.embedding_norm:
            x = self.embedding_norm(x)
        return x, history

    def get_config(self):
        return {**super().get_config(), "config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**{**config, "config": from_saved(ModelConfig, config["config"])})


def _most_likely(logits):
    """As `argmax`, for which Keras on TensorFlow uses an operator that LiteRT does not have."""
    _, token_ids = ops.top_k(logits, 1)
    return token_ids[..., 0]
