"""How far a file may stray from a model that is all but sure, and how a refusal says what it is."""

import contextlib
import dataclasses

import numpy as np
import pytest

from neo_keras.atomic_files import PARTIAL_PREFIX, atomic_write
from neo_keras.errors import FailedError, InputError
from neo_keras.export import parity
from neo_keras.export.quantization import QUANTIZATIONS

VOCAB_SIZE, UNK = 5, 4


def reference_of(loss):
    """A `Reference` whose Keras model gives each right token the same probability, exp(-loss)."""
    prompts, targets = np.random.default_rng(3).integers(0, UNK, (2, 2, 4)).astype("int32")
    right = -np.log(np.expm1(loss) / (UNK - 1))
    logits = right * np.eye(VOCAB_SIZE, dtype="float32")[targets.ravel()]
    return parity.Reference(prompts, targets, logits, np.arange(VOCAB_SIZE) != UNK)


def check(loss, own_loss, quantization="int4", difference=0.0):
    measurement = parity.Measurement(difference, 1.0, own_loss, 1.0)
    parity.check(measurement, reference_of(loss), quantization, "model-int4.tflite")


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_text_that_is_known_by_heart(quantization):
    assert reference_of(1e-4).loss == pytest.approx(1e-4, rel=1e-3)
    check(1e-4, 3e-4, quantization)  # three times as much is still nothing
    rise = QUANTIZATIONS[quantization].always_allowed_rise
    check(1e-4, rise, quantization)
    for wrong in (rise + 2e-4, 1.0, float("nan")):
        with pytest.raises(parity.VerificationError):
            check(1e-4, wrong, quantization)


def test_a_share_where_it_is_more():
    check(2.5, 2.749)
    with pytest.raises(parity.VerificationError, match="loss is 2.5, .* at most 2.75, got 2.76"):
        check(2.5, 2.7601)


@pytest.mark.parametrize(
    ("loss", "own_loss", "difference", "message"),
    [
        (1e-4, 0.21, 0, "model's loss is 0.0001, and its own: expected at most 0.2, got 0.21;"),
        (2.5, 2.750001, 0, "expected at most 2.75, got 2.750001;"),
        (1.5, 1.5, 0.001004, "logits differ .*: expected at most 0.001, got 0.001004;"),
        (1.5, float("nan"), 0, "got nan;"),
    ],
)
def test_the_digits_show_what_is_too_much(loss, own_loss, difference, message):
    quantization = "float32" if difference else "int4"
    with pytest.raises(parity.VerificationError, match=message):
        check(loss, own_loss, quantization, difference)


@pytest.mark.parametrize(
    "say",
    [
        lambda path: parity.VerificationError(f"{path.name} is wrong"),
        lambda path: FailedError(f"{path} was verified, but"),
        lambda path: InputError(f"TensorFlow cannot load {path / 'variables'}: export it again"),
        lambda path: OSError(28, "No space left on device", str(path)),
        lambda path: OSError(f"unable to create file (name = '{path}')"),
    ],
)
def test_errors_name_the_file_by_its_own_name(tmp_path, say):
    with pytest.raises((FailedError, InputError, OSError)) as raised:
        with atomic_write(tmp_path / "model-int4.tflite") as partial:
            error = say(partial)
            raise error
    assert isinstance(raised.value, type(error))
    assert "model-int4.tflite" in str(raised.value) and PARTIAL_PREFIX not in str(raised.value)


def test_large_logits_may_differ_by_more():
    """A sum of float32 terms of 100 is right to 1e-5 at best, one of many terms to 1e-3."""
    reference = dataclasses.replace(
        reference_of(1.5), logits=100 * np.sign(reference_of(1.5).logits)
    )
    for difference, right in ((0.019, True), (0.021, False)):
        measurement = parity.Measurement(difference, 1.0, reference.loss, 1.0)
        refused = pytest.raises(parity.VerificationError, match="expected at most 0.02")
        with contextlib.nullcontext() if right else refused:
            parity.check(measurement, reference, "float32", "model-float32.tflite")
