"""The model, in `keras.ops` only: it runs on every Keras backend."""
