"""Where text comes from, and text <-> token ids. Nothing here needs TensorFlow.

A text on its way to training, each step in a module of its own: `sources` finds the files,
`readers` decodes them, and `formats` makes one text of them. `shards` cuts it where no token is,
`tokenizer` encodes it in `chunks`, and `encoding` takes from the `token_cache` what was encoded
before. `corpus` puts all of this together; `pairs` is the same for pairs of a source and a target.
"""
