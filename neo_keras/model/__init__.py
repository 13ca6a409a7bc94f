"""Layers and models: `keras.ops` only. Importing any of them registers both models with Keras."""

from neo_keras.model import encoder_decoder as encoder_decoder  # and with it `gpt`
