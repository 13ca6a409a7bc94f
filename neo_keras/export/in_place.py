"""The in-place form: the cache comes in and goes out, in the same memory, and grows with the text.

It is the fastest form: a file's variables are copied whole in each step, and all of a fixed cache
takes part in each step, however short the text. It needs LiteRT's `CompiledModel`, which lets an
input and an output share a buffer.
"""

import tensorflow as tf

from neo_keras.export.signatures import step_specs
from neo_keras.generation.engine import chunk_size_for


class InPlaceGPT:
    """A model whose cache the app holds, for one text at a time.

    Beside `tokens` and `input_pos` the signatures take `key_positions`, int32 [capacity]: 0, 1 and
    so on, one for each slot of the cache. The capacity is open.

    Args:
        model: `GPT`.
        bias: float32 [vocab_size], added to logits.
    """

    def __init__(self, model, bias):
        self._model = model
        self._bias = bias

    def signatures(self):
        """(method, its inputs) of each signature."""
        config = self._model.config
        shared = {"key_positions": tf.TensorSpec([None], tf.int32, name="key_positions")}
        for name, value in self._model.empty_cache().items():
            shape = list(value.shape)
            if len(shape) == 4:  # keys and values; not the history of tokens, which is small
                shape[2] = None
            shared[name] = tf.TensorSpec(shape, value.dtype, name=name)
        signatures = [
            # First what may run with a single slot: LiteRT's Interpreter tries the first one.
            (self.decode_in_place, [{**step_specs(1, 1), **shared}]),
            (
                self.prefill_in_place,
                [{**step_specs(1, chunk_size_for(config.max_seq_len)), **shared}],
            ),
        ]
        if config.num_speculative_tokens:
            num_tokens = 1 + config.num_speculative_tokens
            noise_shape = [num_tokens + config.num_speculative_tokens, config.vocab_size]
            noise = {"noise": tf.TensorSpec(noise_shape, tf.float32, name="noise")}
            signatures.append(
                (self.verify_in_place, [{**step_specs(1, num_tokens), **noise, **shared}])
            )
        return signatures

    def prefill_in_place(self, inputs):
        """Takes in a chunk of tokens."""
        return self._step(**inputs)[1]

    def decode_in_place(self, inputs):
        """Takes in one token: `logits`, float32 [1, 1, vocab_size], beside the cache."""
        logits, cache = self._step(**inputs)
        return {"logits": logits + self._bias, **cache}

    def verify_in_place(self, inputs):
        """Takes in a token and its drafts: `logits` of each, and `drafts`, as `GPT.verify`."""
        return self._verify(**inputs)

    def _step(self, tokens, input_pos, key_positions, **cache):
        return self._model.step(tokens, input_pos, cache, key_positions)

    def _verify(self, tokens, input_pos, noise, key_positions, **cache):
        logits, drafts, cache = self._model.verify(
            tokens, input_pos, cache, noise + self._bias, key_positions
        )
        return {"logits": logits + self._bias, "drafts": drafts, **cache}
