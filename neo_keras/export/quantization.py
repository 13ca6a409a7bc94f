"""Quantizations: how a `.tflite` stores its weights. A new one is a row of a table."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How weights are stored, and how far a file may be off; the rest of a file is float32."""

    bits: int  # of a weight
    # What is allowed, as a share, or in nats per token where that is more. A conversion that went
    # wrong about doubles the loss. The default model's rises by 0.02% in int8 and 0.4% in int4;
    # SmolLM2's in int8 by 0.02 nats, and by 0.05 once it was fine-tuned, at a loss of 1.3.
    max_loss_rise: float
    max_logit_difference: float = float("inf")  # where logits are at most `parity.USUAL_LOGIT`
    block_size: int = 0  # of integers: inputs of an output that share a scale, if it divides them
    always_allowed_rise: float = 0.01  # in nats per token
    float_arithmetic: bool = False  # of integers; else kernels quantize activations while running
    is_default: bool = False  # written unless others are asked for
    gguf: str = ""  # how a GGUF file stores it; "" if it does not


QUANTIZATIONS = {
    "float32": Quantization(32, 0.01, max_logit_difference=1e-3, is_default=True, gguf="F32"),
    "float16": Quantization(16, 0.01, max_logit_difference=1e-1, is_default=True, gguf="F16"),
    "int8": Quantization(8, 0.02, always_allowed_rise=0.1, is_default=True, gguf="Q8_0"),
    "int8-weights": Quantization(8, 0.02, always_allowed_rise=0.1, float_arithmetic=True),
    "int4": Quantization(4, 0.1, always_allowed_rise=0.2),
    "int4-block32": Quantization(4, 0.1, always_allowed_rise=0.2, block_size=32),
}
DEFAULTS = tuple(name for name, row in QUANTIZATIONS.items() if row.is_default)
