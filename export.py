"""Export a trained model, verified: SavedModel, TFLite (LiteRT), LiteRT-LM bundle, web page;
and for other programs safetensors and GGUF."""

import contextlib
import os
import pathlib

from neo_keras.environment import prepare_for_keras
from neo_keras.errors import ArgumentParser, one_line_errors, utf8_path
from neo_keras.export.formats import FORMATS, check_names, to_generate_with
from neo_keras.export.quantization import DEFAULTS, QUANTIZATIONS
from neo_keras.native_logs import import_tensorflow

# By title, what the table shows of a row of the report.
COLUMNS = {
    "file": lambda row: row["file"],
    "MB": lambda row: f"{row['size_bytes'] / 1e6:.2f}" if "size_bytes" in row else "",
    "logit\ndiff.": lambda row: f"{row['max_logit_difference']:.1e}",
    "greedy": lambda row: f"{row['greedy_agreement']:.1%}",
    "loss": lambda row: f"{row['loss']:.4f}",
    "bits/\nchar": lambda row: f"{row['bits_per_char']:.3f}",
    "tokens\n/s": lambda row: f"{row['tokens_per_second']:,.0f}",
}


# fmt: off
def parse_arguments():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    defaults = ",".join(name for name, row in FORMATS.items() if row.is_default)
    add("run", nargs="?", type=utf8_path, metavar="RUN", default="runs/shakespeare",
        help="run directory; or weights of others: a folder of Hugging Face's transformers, of "
        "PEFT or of KerasHub, a .gguf file, or hf://OWNER/NAME [%(default)s]")
    add("--formats", metavar="LIST", help=f"comma-separated: some of {','.join(FORMATS)}; an "
        f"encoder-decoder has the first two [{defaults}]")
    add("--quantize", metavar="LIST", default=",".join(DEFAULTS), help="of .tflite, .litertlm and "
        f".gguf files: some of {','.join(QUANTIZATIONS)}; web takes one, int8 if it is there "
        "[%(default)s]")
    add("--out", type=utf8_path, metavar="DIRECTORY", help="directory to write to [RUN/export; of "
        "weights of others NAME-export, here]")
    add("--seq-len", type=int, metavar="N", help="context in tokens, of weights of others "
        "[1024, or as long as they have], or of a model fine-tuned from them [as it was trained]")
    return parser.parse_args()
# fmt: on


def chosen(option, value, allowed):
    names = [name.strip() for name in value.split(",") if name.strip()]
    check_names(option, names, allowed)
    return names


def run_export(args):
    prepare_for_keras()
    formats = None if args.formats is None else chosen("--formats", args.formats, FORMATS)
    quantizations = chosen("--quantize", args.quantize, QUANTIZATIONS)

    import rich
    from rich import box
    from rich.table import Table

    from neo_keras.commands import generate_command, quoted
    from neo_keras.weights.open import is_pretrained

    write = export_weights if is_pretrained(args.run) else export_trained
    rows, out, text, tokenizer = write(args, formats, quantizations)
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0))  # 80 columns must do
    for title in COLUMNS:
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*(text(row) for text in COLUMNS.values()))
    rich.print(table)
    command = ""
    if name := to_generate_with(rows):
        command = f"; try: {generate_command(out / name, text, tokenizer)}"
    print(f"in {out}{command}")
    for row in {row["format"]: row for row in rows[1:]}.values():  # the last one of each
        if hint := FORMATS[row["format"]].hint:
            print(hint.format(quoted(out / row["file"])))


def export_trained(args, formats, quantizations):
    """(rows of the report, directory, validation text, tokenizer) of a run."""
    from neo_keras.run_directory.directory import RunDirectory

    run = RunDirectory.open(args.run)
    run.read_metrics()  # a part of another run is said at once, not after minutes
    import_tensorflow()
    from neo_keras.export.exporter import export_run

    in_run = args.out is None or os.path.realpath(args.out) == os.path.realpath(run.export)
    with run.exporting() if in_run else contextlib.nullcontext():
        rows = export_run(run, formats, quantizations, args.out, print_row, args.seq_len)
    out = pathlib.Path(args.out or run.export)
    return rows, out, run.load_validation_text(), run.load_tokenizer()


def export_weights(args, formats, quantizations):
    """As `export_trained`, of what others trained."""
    from neo_keras.weights.open import describe_pretrained, open_pretrained

    pretrained = open_pretrained(args.run, args.seq_len)
    out = pathlib.Path(args.out or f"{pretrained.name}-export")
    print(*describe_pretrained(pretrained), sep="\n", flush=True)
    import_tensorflow()
    from neo_keras.export.exporter import export_pretrained

    rows = export_pretrained(pretrained, out, formats, quantizations, print_row)
    return rows, out, "", pretrained.tokenizer


def print_row(row):
    print(f"verified {row['file']}", flush=True)


if __name__ == "__main__":
    arguments = parse_arguments()
    with one_line_errors():
        run_export(arguments)
