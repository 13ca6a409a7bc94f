"""Where text comes from, and text <-> token ids. Nothing here needs TensorFlow."""
