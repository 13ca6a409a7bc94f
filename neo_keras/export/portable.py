"""Weights for other programs: what both of their forms have in common."""

import numpy as np

from neo_keras.export import parity
from neo_keras.weights.conversion import as_target, target_of
from neo_keras.weights.open import open_pretrained

MAX_LOGIT_DIFFERENCE = 1e-5  # of what is read back, in float32, where logits are `USUAL_LOGIT`


def write(form, write_file, source, path, quantization):
    """Writes weights, and measures what our reader makes of them; see `formats.Format`.

    Args:
        form: "huggingface" or "gguf".
        write_file: a function of (path, name of an architecture, `GPT`, `Tokenizer`).
    """
    name, target = target_of(source.model.config, form)
    write_file(path, name, as_target(source.model, target), source.tokenizer)
    return read_back(source, path, quantization)


def read_back(source, path, quantization):
    """The `Measurement` of what our reader makes of a path that was written."""
    opened = open_pretrained(path, source.model.config.max_seq_len).load_model()
    measurement = parity.measure_weights(opened, source.reference)
    if quantization == "float32":
        _check_same_logits(measurement, source.reference)
    return measurement


def _check_same_logits(measurement, reference):
    largest, difference = np.abs(reference.logits).max(), measurement.max_logit_difference
    if not difference <= MAX_LOGIT_DIFFERENCE * max(largest / parity.USUAL_LOGIT, 1):
        raise parity.VerificationError(
            f"the weights are wrong: read back, their logits differ by {difference:.3g}, expected "
            f"at most {MAX_LOGIT_DIFFERENCE:g}; nothing was written"
        )
