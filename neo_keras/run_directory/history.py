"""What was measured of a training: rows of a checkpoint; for people also a table and a picture."""

import csv
import math

from neo_keras.atomic_files import atomic_write

COLUMNS = ("step", "train_seconds", "learning_rate", "train_loss", "val_loss")


def write_csv(path, rows):
    with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def plot_losses(path, rows):
    """Writes a PNG of the training and the validation loss against steps."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for column, label in (("train_loss", "training"), ("val_loss", "validation")):
        there = [row for row in rows if row[column] is not None]
        axes.plot([row["step"] for row in there], [row[column] for row in there], "o-", label=label)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=150)


def loss_of(row):
    """The validation loss of a row; infinite where there is no row, or it was not measured."""
    return math.inf if row is None or row["val_loss"] is None else row["val_loss"]
