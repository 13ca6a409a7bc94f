"""The stateful form: the cache lives in variables of the file, and an app needs no code for it."""

import tensorflow as tf
from keras import ops

from neo_keras.export.sampling import sample_token, sampling_specs
from neo_keras.export.signatures import split_inputs, step_specs, tokens_spec
from neo_keras.generation.engine import chunk_size_for


class StatefulGPT(tf.Module):
    """A model with a cache of its own, for one text at a time.

    Args:
        model: `GPT`.
        bias: float32 [vocab_size], added to logits.
    """

    def __init__(self, model, bias):
        super().__init__()
        self._step = model.step
        self._max_seq_len = model.config.max_seq_len
        self._bias = bias
        self.cache = {name: tf.Variable(value) for name, value in model.empty_cache().items()}

    def signatures(self):
        """(method, its inputs) of each signature."""
        numbers = {
            name: tf.TensorSpec([1], tf.int32, name=name)
            for name in ("step", "prompt_len", "max_new_tokens", "stop_token")
        }
        step, sampling = step_specs(1, 1), sampling_specs()
        return [
            (self.reset, []),
            (self.prefill, [step_specs(1, chunk_size_for(self._max_seq_len))]),
            (self.decode, [step]),
            (self.sample, [{**step, "step": numbers.pop("step"), **sampling}]),
            (
                self.generate,
                [{"tokens": tokens_spec(1, self._max_seq_len, "tokens"), **numbers, **sampling}],
            ),
        ]

    def step(self, tokens, input_pos):
        """As `GPT.step`, on the cache here; returns logits."""
        logits, cache = self._step(tokens, input_pos, self.cache)
        for name, value in cache.items():
            self.cache[name].assign(value)
        return logits + self._bias

    def reset(self):
        """Begins a new text."""
        for variable in self.cache.values():
            variable.assign(tf.zeros_like(variable))
        return {"input_pos": tf.zeros([1], tf.int32)}  # a signature must return something

    def prefill(self, inputs):
        """Takes in a chunk of tokens."""
        self.step(**inputs)
        # Not the input as it came: LiteRT's CompiledModel would read that input from the memory of
        # the output, which is garbage.
        return {"input_pos": inputs["input_pos"] + 1}

    def decode(self, inputs):
        """Takes in one token: `logits`, float32 [1, 1, vocab_size]."""
        return {"logits": self.step(**inputs)}

    def sample(self, inputs):
        """Takes in one token and draws the `next_token`, int32 [1]."""
        tokens, input_pos, sampling = split_inputs(inputs, "tokens", "input_pos")
        return {"next_token": sample_token(self.step(tokens, input_pos), **sampling)}

    def generate(self, inputs):
        """Continues a prompt, in one call, from an empty cache to at most the end of the context.

        Takes the prompt's `tokens` int32 [1, max_seq_len], of which the first `prompt_len` (at
        least 1) count; `max_new_tokens`; and `stop_token`, after which it ends (-1: none).

        Returns `token_ids` int32 [1, max_seq_len], of which the first `count` are the prompt and
        its continuation.
        """
        token_ids, prompt_len, max_new_tokens, stop_token, sampling = split_inputs(
            inputs, "tokens", "prompt_len", "max_new_tokens", "stop_token"
        )
        end = ops.minimum(prompt_len + max_new_tokens, self._max_seq_len)

        def unfinished(position, token_ids, end):
            return (position < end - 1)[0]

        def take_one(position, token_ids, end):
            token = ops.slice(token_ids, (0, position[0]), (1, 1))
            logits = self.step(token, position)
            position = position + 1
            drawn = sample_token(logits, position - prompt_len, **sampling)
            given = ops.slice(token_ids, (0, position[0]), (1, 1))
            token = ops.where(position < prompt_len, given, drawn)
            stopped = ops.logical_and(position >= prompt_len, drawn == stop_token)
            token_ids = ops.slice_update(token_ids, (0, position[0]), token)
            return position, token_ids, ops.where(stopped, position + 1, end)

        begin = ops.zeros([1], "int32")
        _, token_ids, end = ops.while_loop(unfinished, take_one, (begin, token_ids, end))
        return {"token_ids": token_ids, "count": end}
