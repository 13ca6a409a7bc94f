"""A `.keras` file of a run: a model, and among the members of the zip the run's own record."""

import contextlib
import hashlib
import json
import math
import zipfile

from neo_keras.atomic_files import atomic_write, parse_json
from neo_keras.config import ModelConfig, from_saved
from neo_keras.errors import InputError

RECORD = "run.json"


def save(path, model, record, check_own):
    """Saves a model, its optimizer if it has one, and a record: a dict for JSON.

    `check_own` is called just before the file is replaced, and raises what shall prevent it.
    """
    from neo_keras.model.lora import saved_variables

    optimizer = getattr(model, "optimizer", None)
    variables = saved_variables(model) + (optimizer.variables if optimizer else [])
    size = 4e-6 * sum(math.prod(variable.shape) for variable in variables)
    try:
        with atomic_write(path) as partial:
            model.save(partial)
            record = {**record, "sha256": sha256(json.dumps(record).encode())}
            with zipfile.ZipFile(partial, "a") as archive:  # Keras looks at its own members only
                archive.writestr(RECORD, json.dumps(record))
            check_own()
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; it takes {size:.1f} MB") from error


def load(path, model):
    """Fills a model, and its optimizer if it has one; or `InputError`."""
    with _damage_in_one_line(path, "damaged or of another model"):
        _check_arrays(path)
        model.load_weights(path)


@contextlib.contextmanager
def _damage_in_one_line(path, what="damaged"):
    try:
        yield
    # What a damaged file raises depends on where the damage is: zip, HDF5 or a weight's shape.
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{path} is {what} ({reason}): copy it back, or train again with --overwrite"
        ) from None


def _check_arrays(path):
    """Raises `ValueError` where an array says that it has more numbers than there are."""
    import h5py  # which comes with Keras

    def name_if_short(name, node):
        is_array = isinstance(node, h5py.Dataset)
        return name if is_array and node.id.get_storage_size() < node.nbytes else None

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as weights:
        with h5py.File(weights) as file:
            if name := file.visititems(name_if_short):
                raise ValueError(f"its array {name} is not all there")


def read_record(path, model_config, check=False):
    """The record of a file, a dict, if that is sound, with `check` all of it; or `InputError`."""
    with _damage_in_one_line(path):
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ValueError("it is compressed, and might expand without end")
            if check and archive.testzip():
                raise ValueError("its checksum is wrong")
            if RECORD not in archive.namelist():  # it was written before there were records
                return {}
            record = dict(parse_json(archive.read(RECORD)))
        if record.pop("sha256") != sha256(json.dumps(record).encode()):
            raise ValueError(f"its {RECORD} was changed")
        if from_saved(ModelConfig, record["model"]) != model_config:
            raise ValueError("it is of another model than config.json")
        return record


def sha256(data):
    return hashlib.sha256(data).hexdigest()
