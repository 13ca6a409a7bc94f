"""A `.keras` file of a run: a model, and among the members of the zip the run's own record."""

import json
import zipfile

from neo_keras.errors import InputError
from neo_keras.files import complete_or_absent

RECORD = "run.json"
MAX_RECORD_BYTES = 2**28


def save(path, model, record, may_replace):
    """Saves a model, its optimizer if it has one, and a record.

    Args:
        path: of the file, which is replaced at once or stays as it was.
        model: `keras.Model`.
        record: what JSON can hold.
        may_replace: called just before; raises what shall prevent it.
    """
    with complete_or_absent(path) as partial:
        model.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(RECORD, json.dumps(record))  # Keras looks at its own members only
        may_replace()


def without_optimizer(model):
    """A copy of a `GPT` or `EncoderDecoder` that is not compiled, nor has what only training needs.

    Keras saves the optimizer with a compiled model, thrice the size.
    """
    copy = type(model).from_config(model.get_config())
    # What only training needs comes last: see `training_model`.
    copy.set_weights(model.get_weights()[: len(copy.weights)])
    return copy


def load(path, model):
    """Fills a model, and its optimizer if it has one.

    Raises:
        InputError: the file is damaged or of another model.
    """
    try:
        model.load_weights(path)
    # What a damaged file raises depends on where the damage is: zip, HDF5 or a weight's shape.
    except Exception as error:
        raise InputError(
            f"{path} is damaged or of another model ({_first_line(error)}): train again with "
            "--overwrite"
        ) from None


def read_record(path, check=False):
    """The record of a file.

    Args:
        path: of the file.
        check: whether to look for damage in all of the file.

    Returns:
        dict; empty where the file was written before there were records.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if check and archive.testzip():
                raise ValueError("its checksum is wrong")
            if RECORD not in archive.namelist():
                return {}
            if archive.getinfo(RECORD).file_size > MAX_RECORD_BYTES:
                raise ValueError(f"its {RECORD} is too large")
            return dict(json.loads(archive.read(RECORD)))
    except Exception as error:  # as in `load`
        raise InputError(
            f"{path} is damaged ({_first_line(error)}): copy it back, or train again with "
            "--overwrite"
        ) from None


def _first_line(error):
    return str(error).strip().split("\n")[0]
