"""What the models of memory and time predict for GPT-2's sizes on A100s. Nothing is run."""

import argparse
import dataclasses
import pathlib
import sys

import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.config import TrainingConfig
from neo_keras.errors import one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import from_preset

# NVIDIA's data sheet: dense bfloat16, and memory bandwidth of the 40 and the 80 GB model (SXM).
PEAK_FLOPS = 312e12
BANDWIDTH = {40: 1.555e12, 80: 2.039e12}
# One direction of NVLink within a machine of eight; of a 200 Gbit/s InfiniBand card for each GPU
# between machines.
LINK = {8: 300e9, 64: 25e9}
PRODUCT_SHARE = 0.6  # assumed, for products this large; see docs/scaling.md
VOCAB_SIZE = 50257
TRAINING = TrainingConfig(
    optimizer="adamw", clip_norm=1.0, jit_compile=True, mixed_precision="bfloat16"
)  # fmt: skip
CASES = [  # model, GPUs, GB of each, windows of 1,024 in the memory of each, tokens in a step
    ("124M", 1, 40, 12, 491_520),
    ("124M", 8, 40, 12, 491_520),
    ("1.5B", 64, 40, 1, 1_048_576),
    ("1.5B", 64, 80, 1, 1_048_576),
    ("1.5B", 64, 80, 4, 1_048_576),
]


def main():
    import_tensorflow()
    gpt2, _ = from_preset("gpt2-124m", VOCAB_SIZE)
    models = {
        "124M": gpt2,
        "1.5B": dataclasses.replace(
            gpt2, num_layers=48, num_heads=25, num_kv_heads=25, hidden_dim=1600
        ),
    }
    table = Table("model", "GPUs", "GB each", "windows", "GB used", "step, ms", "without scores",
                  "share of peak", "GB summed", "ms to sum")  # fmt: skip
    for name, *case in CASES:
        table.add_row(name, *map(str, case[:3]), *predict(models[name], *case))
    rich.print(table)


def predict(config, gpus, gigabytes, rows, tokens_per_step):
    """Cells of a row."""
    from neo_keras.training import flops
    from neo_keras.training.estimate import EXECUTIONS, memory_parts

    weights = flops.count_weights(config).total
    slices = tokens_per_step / (rows * config.max_seq_len * gpus)
    training = dataclasses.replace(
        TRAINING, batch_size=rows, gradient_accumulation_steps=round(slices)
    )
    memory = sum(memory_parts(config, training, on_device=True).values())
    tokens = tokens_per_step / gpus
    kept = flops.activation_bytes(config, rows, 2) + flops.logits_bytes(config, rows, 2)
    scores = rows * config.num_layers * config.num_heads * config.max_seq_len**2 * (4 + 2)
    products = flops.flops_per_token(config) * tokens / (PEAK_FLOPS * PRODUCT_SHARE)

    def seconds(kept):
        traffic = slices * EXECUTIONS["xla"].passes * kept
        traffic += 4 * EXECUTIONS["xla"].optimizer_numbers * weights
        return products + traffic / BANDWIDTH[gigabytes]

    step = seconds(kept)
    share = flops.flops_per_token(config) * tokens / step / PEAK_FLOPS
    summed = 2 * (gpus - 1) / gpus * 4 * weights  # sent by each GPU of a ring
    to_sum = f"{1000 * summed / LINK[gpus]:.0f}" if gpus > 1 else ""
    return (
        f"{memory / 1e9:.1f}", f"{1000 * step:,.0f}", f"{1000 * seconds(kept - scores):,.0f}",
        f"{share:.0%}", f"{summed / 1e9:.1f}", to_sum,
    )  # fmt: skip


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with one_line_errors():
        main()
