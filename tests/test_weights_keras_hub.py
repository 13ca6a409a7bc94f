"""A preset folder of KerasHub comes in, through KerasHub's own export to transformers."""

import json

import keras_hub
import numpy as np
import pytest
import tiny_tokenizers
from tolerances import assert_close

from neo_keras.errors import InputError
from neo_keras.weights.open import is_pretrained, open_pretrained

SHAPE = dict(num_layers=2, num_heads=3, hidden_dim=21, intermediate_dim=31, max_sequence_length=17)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """(path, backbone, size of the vocabulary)."""
    hf = json.loads(tiny_tokenizers.MAKE["bpe"]().to_str())["model"]
    vocab = {**hf["vocab"], "<|endoftext|>": len(hf["vocab"])}
    merges = [" ".join(pair) for pair in hf["merges"]]
    path = tmp_path_factory.mktemp("preset") / "gpt2"
    backbone = keras_hub.models.GPT2Backbone(vocabulary_size=len(vocab), **SHAPE)
    backbone.save_to_preset(str(path))
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary=vocab, merges=merges)
    tokenizer.save_to_preset(str(path))
    return path, backbone, len(vocab)


@pytest.mark.exhaustive
def test_gpt2(preset):
    path, backbone, vocab_size = preset
    assert is_pretrained(path)
    pretrained = open_pretrained(path)
    assert pretrained.tokenizer.decode([pretrained.tokenizer.end_token_id]) == "<|endoftext|>"
    token_ids = np.random.default_rng(2).integers(vocab_size, size=(2, 17))
    hidden = backbone({"token_ids": token_ids, "padding_mask": np.ones_like(token_ids)})
    expected = np.asarray(backbone.token_embedding(hidden, reverse=True))
    assert_close(np.asarray(pretrained.load_model()(token_ids)), expected, 2 * (21 + 21 + 31 + 21))


@pytest.mark.exhaustive
def test_what_keras_hub_cannot_export(preset, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"registered_name": "keras_hub>NoBackbone"}))
    with pytest.raises(InputError, match="KerasHub cannot export .* to transformers") as raised:
        open_pretrained(tmp_path)
    assert "\n" not in str(raised.value)
