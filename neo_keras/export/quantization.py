"""Quantizations: how a `.tflite` stores its weights. A new one is a row of a table."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How weights are stored, and how far a file may be off.

    Norms and activations are float32 in the file.

    Attributes:
        bits: of a weight.
        max_loss_rise: what is allowed, as a share. A conversion that went wrong about doubles the
            loss. The default model's rises by 0.02% in int8 and 0.4% in int4: others may mind more.
        max_logit_difference: what is allowed where logits are at most `parity.USUAL_LOGIT`.
        granularity: of integers, what shares a scale: the inputs of an output, "CHANNELWISE", or
            of these blocks of 32, "BLOCKWISE_32", where 32 divides their number.
        float_arithmetic: of integers, they are expanded to floats; else kernels quantize the
            activations while running.
        is_default: written unless others are asked for.
    """

    bits: int
    max_loss_rise: float
    max_logit_difference: float = float("inf")
    granularity: str = "CHANNELWISE"
    float_arithmetic: bool = False
    is_default: bool = False

    @property
    def has_scales(self):
        return self.bits <= 8


QUANTIZATIONS = {
    "float32": Quantization(32, 0.01, max_logit_difference=1e-3, is_default=True),
    "float16": Quantization(16, 0.01, max_logit_difference=1e-1, is_default=True),
    "int8": Quantization(8, 0.02, is_default=True),
    "int8-weights": Quantization(8, 0.02, float_arithmetic=True),
    "int4": Quantization(4, 0.1),
    "int4-block32": Quantization(4, 0.1, granularity="BLOCKWISE_32"),
}
DEFAULTS = tuple(name for name, row in QUANTIZATIONS.items() if row.is_default)
