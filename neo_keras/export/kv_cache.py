"""A KV cache that lives in variables of an exported file."""

import tensorflow as tf
from keras import ops

FIRST_END = 64


def bucket_ends(max_seq_len):
    """Before which slots the buckets of a cache end: 64, 128, 256 and so on; list of int."""
    ends = [FIRST_END]
    while ends[-1] < max_seq_len:
        ends.append(2 * ends[-1])
    return [*ends[:-1], max_seq_len]


class KVCache(tf.Module):
    """The cache of one sequence, in one or several buckets of slots.

    All slots of a cache take part in a step, however short the text. Of one in buckets, a step
    reads those that it needs.

    Args:
        cache: dict of arrays, as `GPT.empty_cache`.
        ends: list of int, the slots before which the buckets end.
    """

    def __init__(self, cache, ends):
        super().__init__()
        self._slices = [slice(*span) for span in zip([0, *ends], ends)]
        # Keys and values have their slots along axis 2. The others, which have none, are small.
        growing = {name: x for name, x in cache.items() if len(x.shape) == 4}
        # Names of their own: the converter sorts by name, and equal ones by where they lie.
        self.whole = {n: tf.Variable(x, name=n) for n, x in cache.items() if n not in growing}
        self.buckets = [
            {n: tf.Variable(x[:, :, s], name=f"{n}_{s.start}") for n, x in growing.items()}
            for s in self._slices
        ]

    def run(self, function, inputs, first=0, last=-1):
        """Runs one of `model_functions` on the cache.

        Args:
            function: function of (inputs, cache).
            inputs: dict of tensors.
            first: of the buckets that are written, the number of the first.
            last: of the buckets that are read and written, the number of the last.

        Returns:
            dict, what the function returns beside the cache.
        """
        last %= len(self.buckets)
        read = self.buckets[: last + 1]
        cache = {name: _join([bucket[name] for bucket in read]) for name in read[0]}
        key_positions = ops.arange(self._slices[last].stop, dtype="int32")
        outputs = function({**inputs, "key_positions": key_positions}, {**self.whole, **cache})
        others = {}
        for name, value in outputs.items():
            if name in self.whole:
                self.whole[name].assign(value)
            elif name in cache:
                for bucket, span in zip(read[first:], self._slices[first:]):
                    bucket[name].assign(value[:, :, span] if len(self.buckets) > 1 else value)
            else:
                others[name] = value
        return others

    def reset(self):
        """Begins a new sequence."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))


def _join(parts):
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=2)
