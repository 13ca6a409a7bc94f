"""Export a trained model, verified: SavedModel, TFLite (LiteRT), LiteRT-LM bundle, web page."""

import contextlib
import os
import pathlib

from neo_keras.environment import prepare_for_keras
from neo_keras.errors import ArgumentParser, InputError, one_line_errors, utf8_path
from neo_keras.native_logs import import_tensorflow

FORMATS = "saved_model,tflite,litertlm"
QUANTIZATIONS = "float32,float16,int8,int8-weights,int4,int4-block32"
DEFAULT_QUANTIZATIONS = "float32,float16,int8"


def parse_arguments():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add(
        "run",
        nargs="?",
        type=utf8_path,
        metavar="RUN",
        default="runs/shakespeare",
        help="run directory [%(default)s]",
    )
    add(
        "--formats",
        metavar="LIST",
        help=f"comma-separated; web is another one [{FORMATS}; an encoder-decoder has the first "
        "two]",
    )
    add(
        "--quantize",
        metavar="LIST",
        default=DEFAULT_QUANTIZATIONS,
        help=f"of .tflite and .litertlm files: some of {QUANTIZATIONS}; web takes one, int8 if it "
        "is there [%(default)s]",
    )
    add("--out", type=utf8_path, metavar="DIRECTORY", help="directory to write to [RUN/export]")
    return parser.parse_args()  # fmt: skip


def chosen(option, value, allowed):
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names or not set(names) <= set(allowed.split(",")):
        raise InputError(f"{option} takes some of {allowed}, separated by commas, got {value!r}")
    return names


def run_export(args):
    prepare_for_keras()
    formats = None  # all that the model can have
    if args.formats is not None:
        formats = chosen("--formats", args.formats, FORMATS + ",web")
    quantizations = chosen("--quantize", args.quantize, QUANTIZATIONS)

    import rich
    from rich import box
    from rich.table import Table

    from neo_keras.commands import generate_command, quoted
    from neo_keras.run_directory.directory import RunDirectory

    run = RunDirectory.open(args.run)
    run.read_metrics()  # a part of another run is said at once, not after minutes
    import_tensorflow()
    from neo_keras.export.exporter import export_run

    in_run = args.out is None or os.path.realpath(args.out) == os.path.realpath(run.export)
    with run.exporting() if in_run else contextlib.nullcontext():
        rows = export_run(run, formats, quantizations, args.out, print_row)
    tflite = next((row["file"] for row in rows[::-1] if row["file"].endswith(".tflite")), None)
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))  # 80 columns must do
    for title in ("file", "MB", "logit\ndiff.", "greedy", "loss", "bits/\nchar", "tokens\n/s"):
        table.add_column(title, no_wrap=True)
    for row in rows:
        size = row.get("size_bytes")
        table.add_row(
            row["file"],
            f"{size / 1e6:.2f}" if size else "",
            f"{row['max_logit_difference']:.1e}",
            f"{row['greedy_agreement']:.1%}",
            f"{row['loss']:.4f}",
            f"{row['bits_per_char']:.3f}",
            f"{row['tokens_per_second']:,.0f}",
        )
    rich.print(table)
    out = pathlib.Path(args.out or run.export)
    print(f"in {out}" + (f"; try: {generate_command(run, out / tflite)}" if tflite else ""))
    if "web" in (formats or ()):
        serve = f"python -m http.server --directory {quoted(out / 'web')}"
        print(f"the page: {serve}, then http://localhost:8000")


def print_row(row):
    print(f"verified {row['file']}", flush=True)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        run_export(arguments)
