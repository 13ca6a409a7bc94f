"""The share of this machine's matrix-product peak that training reaches, at three widths."""

import argparse
import multiprocessing
import pathlib
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import rich
from rich.table import Table

BENCHMARKS = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS.parent)]  # so that it runs uninstalled

import training_speed

from neo_keras.errors import one_line_errors
from neo_keras.native_logs import import_tensorflow
from neo_keras.presets import from_preset
from neo_keras.text.corpus import load_corpus
from neo_keras.text.tokenizer import Tokenizer

WIDTHS = {128: 2, 192: 3, 384: 6}  # hidden_dim: num_heads
SHAPE = {"num_layers": 6, "max_seq_len": 256, "batch_size": 8}
MODES = {
    "float32, XLA": {"jit_compile": True, "mixed_precision": "float32"},
    "bfloat16, no XLA": {"jit_compile": False, "mixed_precision": "bfloat16"},
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="a text, such as tiny Shakespeare")
    add("--steps", type=int, default=100, metavar="N", help="timed steps [%(default)s]")
    return parser.parse_args()


def main(args):
    import_tensorflow()
    text = load_corpus([args.data])
    tokenizer = Tokenizer.characters_of(text)
    token_ids = tokenizer.encode(text)
    # In a process where all cores work on one operation; in training each has its own.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        peaks = {mode: process.submit(measure_peak, **MODES[mode]).result() for mode in MODES}
    table = Table("width", "mode", "tokens/s", "model GFLOP/s", "peak", "share")
    for hidden_dim, num_heads in WIDTHS.items():
        for mode, settings in MODES.items():
            configs = from_preset(
                "shakespeare-cpu", tokenizer.vocab_size, hidden_dim=hidden_dim,
                num_heads=num_heads, **SHAPE, **settings,
            )  # fmt: skip
            seconds, *_ = training_speed.measure_keras(token_ids, *configs, args.steps)
            speed = SHAPE["batch_size"] * SHAPE["max_seq_len"] / seconds
            rate = speed * flops_per_token(configs[0])
            table.add_row(
                str(hidden_dim), mode, f"{speed:,.0f}", f"{rate / 1e9:.0f}",
                f"{peaks[mode] / 1e9:.0f}", f"{rate / peaks[mode]:.0%}",
            )  # fmt: skip
    rich.print(table)


def flops_per_token(config):
    """Of a training step: 6 for each weight in a matrix product, and the products of attention.

    As Chowdhery et al. 2022 (arXiv:2204.02311, appendix B) count: look-ups, norms and the optimizer
    are overhead, not model FLOPs.
    """
    width = config.hidden_dim
    ngrams = config.ngram_dim * width if config.max_ngram > 1 else 0
    weights = config.num_layers * 12 * width**2 + config.vocab_size * width + ngrams
    return 6 * weights + 12 * width * config.max_seq_len * config.num_layers


def measure_peak(jit_compile, mixed_precision, size=2048, repeats=20):
    """FLOP/s of the best of several products of square matrices, through TensorFlow's kernels."""
    import_tensorflow()
    import tensorflow as tf

    dtype = tf.as_dtype(mixed_precision)
    a, b = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        tf.matmul(a, b)[0, 0].numpy()
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        sys.exit(main(arguments))
