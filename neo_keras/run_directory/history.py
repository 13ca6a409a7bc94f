"""What was measured of a training: rows, as they stand in a checkpoint and in `history.csv`."""

import csv
import math

from neo_keras.atomic_files import atomic_write
from neo_keras.errors import InputError

COLUMNS = ("step", "train_seconds", "learning_rate", "train_loss", "val_loss")


def read_csv(path):
    """The rows of a file, as dicts of numbers; `val_loss` is None where not measured.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                {name: float(row[name]) if row[name] else None for name in COLUMNS}
                for row in csv.DictReader(file)
            ]
        return [{**row, "step": int(row["step"])} for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(
            f"{path} is missing or damaged ({error}): copy it back, or begin anew with --overwrite"
        ) from None


def write_csv(path, rows):
    with (
        atomic_write(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def loss_of(row):
    """The validation loss of a row; infinite where there is no row, or it was not measured."""
    return math.inf if row is None or row["val_loss"] is None else row["val_loss"]
