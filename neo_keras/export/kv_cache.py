"""A KV cache that lives in variables of an exported file."""

import tensorflow as tf
from keras import ops

FIRST_END = 64


def bucket_ends(max_seq_len):
    """Before which slots the buckets of a cache end: 64, 128, 256 and so on; list of int."""
    ends = (FIRST_END << i for i in range(max_seq_len.bit_length()))
    return [*(end for end in ends if end < max_seq_len), max_seq_len]


class KVCache(tf.Module):
    """A `GPT.empty_cache` of one sequence, its slots in buckets that end before the slots `ends`.

    All slots of a bucket take part in a step that reads it, however short the text.
    """

    def __init__(self, cache, ends):
        super().__init__()
        self._slices = [slice(*span) for span in zip([0, *ends], ends)]
        self.parts = {}
        for name, x in cache.items():
            # Keys and values have their slots along axis 2. The others, which have none, are small.
            parts = [x[:, :, span] for span in self._slices] if len(x.shape) == 4 else [x]
            # A name for each: equal ones would be in an order that changes from export to export.
            self.parts[name] = [tf.Variable(x, name=f"{name}_{i}") for i, x in enumerate(parts)]

    def run(self, function, inputs, bucket=None):
        """Runs one of `model_functions` on the cache; returns what it returns beside the cache.

        The bucket of that number is written, and read with those before it; None: all are.
        """
        stop = len(self._slices) if bucket is None else bucket + 1
        written = slice(bucket, stop)
        cache = {name: ops.concatenate(parts[:stop], 2) for name, parts in self.parts.items()}
        key_positions = ops.arange(self._slices[stop - 1].stop, dtype="int32")
        outputs = function({**inputs, "key_positions": key_positions}, cache)
        for name, parts in self.parts.items():
            if name in outputs:
                value = outputs.pop(name)
                if len(parts) == 1:
                    parts[0].assign(value)
                else:
                    for part, span in zip(parts[written], self._slices[written]):
                        part.assign(value[:, :, span])
        return outputs
