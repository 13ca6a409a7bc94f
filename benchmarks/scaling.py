"""What a step of training costs as the model, the context and the batch grow; draws it."""

import argparse
import pathlib
import sys
import tempfile

import estimates
import numpy as np
import rich
from rich.table import Table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # so that it runs uninstalled

from neo_keras.atomic_files import atomic_write, write_json
from neo_keras.errors import one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import from_preset

VOCAB_SIZE = 65
MODE = {"jit_compile": False, "mixed_precision": "bfloat16"}
BASE = {"num_heads": 2, "hidden_dim": 128, "max_seq_len": 128, "batch_size": 16, "max_ngram": 1}
# What grows, and the label of its axis. Heads stay 64 wide; longer contexts come in fewer rows.
SERIES = {
    "width": ("weights in matrix products",
              [{"hidden_dim": w, "num_heads": w // 64} for w in (64, 128, 256, 384, 512)]),
    "context": ("tokens in a window, 2,048 in a batch",
                [{"max_seq_len": s, "batch_size": 2048 // s} for s in (64, 128, 256, 512, 1024)]),
    "batch": ("windows of 128 tokens in a batch", [{"batch_size": b} for b in (2, 4, 8, 16, 32)]),
}  # fmt: skip


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--json", metavar="FILE", help="also write all measurements here")
    add("--plot", metavar="FILE", help="draw them in this PNG file")
    add("--steps", type=int, default=50, metavar="N", help="of each run [%(default)s]")
    return parser.parse_args()


def main(args):
    import_tensorflow()
    with tempfile.TemporaryDirectory() as folder:
        estimates.write_texts(pathlib.Path(folder), with_tokenizer=False)
        rows = [
            measure(name, {**BASE, **changes}, args.steps, folder)
            for name, (_, points) in SERIES.items()
            for changes in points
        ]
    coefficients = fit(rows)
    print_table(rows)
    overhead, per_flop, per_byte = coefficients
    print(
        f"seconds of a step = {overhead:.3g} + FLOPs / {1 / per_flop:.3g} + bytes kept / "
        f"{1 / per_byte:.3g}"
    )
    if args.json:
        write_json(args.json, {"coefficients": list(coefficients), "rows": rows})
    if args.plot:
        plot(rows, args.plot)


def measure(series, shape, steps, folder):
    """One point: what was counted, estimated and measured."""
    from neo_keras.training import flops

    training = {**MODE, "steps": steps, "steps_per_execution": 5}
    result = estimates.measure_in_subprocess("shakespeare-cpu", {**shape, **training}, folder)
    config, _ = from_preset("shakespeare-cpu", VOCAB_SIZE, **shape)
    tokens = shape["batch_size"] * config.max_seq_len
    in_products = flops.count_weights(config).num_in_products
    grows = {"width": in_products, "context": config.max_seq_len, "batch": shape["batch_size"]}
    row = {
        "series": series,
        **shape,
        "x": grows[series],
        "flops": tokens * flops.flops_per_token(config) + flops.newton_schulz_flops(config),
        "kept": flops.activation_bytes(config, shape["batch_size"], size=2),
        **{f"{kind} {what}": result[kind][what]
           for kind in ("estimated", "measured") for what in ("seconds", "bytes")},
    }  # fmt: skip
    print(row, flush=True)
    return row


def fit(rows):
    """Adds "fitted seconds" to each row; returns (seconds, seconds/FLOP, seconds/byte kept).

    The squares of relative errors are the least.
    """
    factors = np.array([[1, row["flops"], row["kept"]] for row in rows])
    seconds = np.array([row["measured seconds"] for row in rows])
    scale = factors.max(axis=0)  # else the columns differ by twelve orders of magnitude
    weighted = factors / scale / seconds[:, None]
    coefficients = np.linalg.lstsq(weighted, np.ones(len(rows)), rcond=None)[0] / scale
    for row, value in zip(rows, factors @ coefficients):
        row["fitted seconds"] = value
    return coefficients


def print_table(rows):
    table = Table("grows", "width", "context", "batch", "ms", "fit", "estimated", "GFLOP/s", "MB",
                  "estimated")  # fmt: skip
    for row in rows:
        numbers = [row["measured seconds"], row["fitted seconds"], row["estimated seconds"]]
        table.add_row(
            row["series"],
            *(str(row[name]) for name in ("hidden_dim", "max_seq_len", "batch_size")),
            *(f"{1000 * number:.0f}" for number in numbers),
            f"{row['flops'] / row['measured seconds'] / 1e9:.0f}",
            *(f"{row[f'{kind} bytes'] / 1e6:,.0f}" for kind in ("measured", "estimated")),
        )
    rich.print(table)


def plot(rows, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, len(SERIES))
    for column, (series, (label, _)) in enumerate(SERIES.items()):
        points = [row for row in rows if row["series"] == series]
        x = [row["x"] for row in points]
        top, bottom = axes[:, column]
        for kind, style in (("measured", "o"), ("fitted", "-"), ("estimated", "x--")):
            top.plot(x, [1000 * row[f"{kind} seconds"] for row in points], style, label=kind)
        for kind, style in (("measured", "o"), ("estimated", "x--")):
            color = "C0" if kind == "measured" else "C2"
            bottom.plot(x, [row[f"{kind} bytes"] / 1e6 for row in points], style, color=color)
        top.set(xscale="log", ylabel="milliseconds a step" if not column else "")
        bottom.set(xscale="log", xlabel=label, ylabel="peak memory (MB)" if not column else "")
        top.set_ylim(bottom=0)
        bottom.set_ylim(bottom=0)
        for axis in (top, bottom):
            axis.grid(alpha=0.3)
            axis.minorticks_off()
            axis.set_xticks(x, [f"{n / 1e6:.1f}M" if n > 1e5 else n for n in x], fontsize=8)
    axes[0, 0].legend()
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=120)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        main(arguments)
