"""Where text comes from, and text <-> token ids. Nothing here needs TensorFlow.

A text on its way to training: `sources` finds the files, `formats` makes one text of them,
`tokenizer` encodes it in `chunks`, and `encoding` keeps the tokens of its shards. `corpus` puts all
of this together; `pairs` is the same for pairs.
"""
