"""The segmented form: the cache lives in the file, in parts, and a step reads those that it needs.

It is the web page's. LiteRT.js has neither open shapes nor buffers that are both input and output,
so it cannot run `in_place`; and of a cache in one part all slots take part in every step.
"""

import tensorflow as tf
from keras import ops

from neo_keras.export.sampling import sample_token, sampling_specs
from neo_keras.export.signatures import split_inputs, step_specs
from neo_keras.generation.engine import chunk_size_for

FIRST_END = 64


def segment_ends(max_seq_len):
    """Before which slots the segments of a cache end: 64, 128, 256 and so on; list of int."""
    ends = [FIRST_END]
    while ends[-1] < max_seq_len:
        ends.append(2 * ends[-1])
    return [*ends[:-1], max_seq_len]


def sample_name(end):
    """Of the signature for a token in the segment that ends there."""
    return f"sample_{end}"


class SegmentedGPT(tf.Module):
    """A model with a cache of its own, for one text at a time.

    A text needs no reset: it begins at position 0, and nothing after its last token is seen.

    Args:
        model: `GPT`.
        bias: float32 [vocab_size], added to logits.
    """

    def __init__(self, model, bias):
        super().__init__()
        self._model = model
        self._bias = bias
        self._ends = segment_ends(model.config.max_seq_len)
        self._begins = [0, *self._ends[:-1]]
        empty = model.empty_cache()
        # Keys and values have their slots along axis 2. The history of tokens, which has none, is
        # small.
        self.whole = {name: tf.Variable(x) for name, x in empty.items() if len(x.shape) != 4}
        self.segments = [
            {name: tf.Variable(empty[name][:, :, begin:end]) for name in empty.keys() - self.whole}
            for begin, end in zip(self._begins, self._ends)
        ]

    def signatures(self):
        """By name, (function, its inputs)."""
        chunk_size = chunk_size_for(self._model.config.max_seq_len)
        step = tf.TensorSpec([1], tf.int32, name="step")
        inputs = {**step_specs(1, 1), "step": step, **sampling_specs()}
        samples = {
            sample_name(end): (self._sample_in(i), [inputs]) for i, end in enumerate(self._ends)
        }
        return {"prefill": (self.prefill, [step_specs(1, chunk_size)]), **samples}

    def prefill(self, inputs):
        """Takes in a chunk of tokens."""
        self._step(**inputs, first=0, last=len(self._ends) - 1)
        return {"input_pos": inputs["input_pos"] + 1}  # not as it came: see `stateful`

    def _sample_in(self, segment):
        def sample(inputs):
            """Takes in one token of the segment: `logits`, and the `next_token`, drawn of them."""
            tokens, input_pos, sampling = split_inputs(inputs, "tokens", "input_pos")
            logits = self._step(tokens, input_pos, first=segment, last=segment)
            return {"next_token": sample_token(logits, **sampling), "logits": logits}

        return sample

    def _step(self, tokens, input_pos, first, last):
        """As `GPT.step`; reads the segments up to the last, and writes those from the first on."""
        read = self.segments[: last + 1]
        cache = {
            name: ops.concatenate([segment[name] for segment in read], axis=2) for name in read[0]
        }
        key_positions = ops.arange(self._ends[last], dtype="int32")
        logits, cache = self._model.step(tokens, input_pos, {**self.whole, **cache}, key_positions)
        for name, variable in self.whole.items():
            variable.assign(cache[name])
        for i in range(first, last + 1):
            for name, variable in self.segments[i].items():
                variable.assign(cache[name][:, :, self._begins[i] : self._ends[i]])
        return logits + self._bias
