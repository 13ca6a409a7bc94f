"""A `.keras` file of a run: a model, and among the members of the zip the run's own record."""

import contextlib
import hashlib
import io
import json
import math
import struct
import zipfile

from neo_keras.atomic_files import atomic_write, parse_json
from neo_keras.config import ModelConfig, from_saved
from neo_keras.errors import InputError

RECORD, WEIGHTS = "run.json", "model.weights.h5"


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
    with _damage_in_one_line(path, "damaged or of another model"), _Weights(path) as weights:
        _check_arrays(weights)
        model.load_weights(weights)


class _Weights(io.BytesIO):
    """The weights in a `.keras` file, which stand there as they are, uncompressed.

    For each step back, `zipfile` reads from their beginning again (until Python 3.13): of 540 MB,
    14 GB. Keras takes a file that is a `BytesIO`, and whose name as a `str` ends like this one.
    """

    def __init__(self, path):
        super().__init__()
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(WEIGHTS)
        self._file, self._size, self._position = open(path, "rb"), info.file_size, 0
        # Of a header of 30 bytes, before the name and what is extra, the last two are their sizes.
        self._file.seek(info.header_offset + 26)
        self._start = info.header_offset + 30 + sum(struct.unpack("<HH", self._file.read(4)))

    def __str__(self):
        return WEIGHTS

    def seek(self, offset, whence=io.SEEK_SET):
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self):
        return self._position

    def readinto(self, buffer):
        self._file.seek(self._start + self._position)
        left = max(self._size - self._position, 0)
        num_bytes = self._file.readinto(memoryview(buffer)[:left])
        self._position += num_bytes
        return num_bytes

    def close(self):
        self._file.close()
        super().close()


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


def _check_arrays(weights):
    """Raises `ValueError` where an array says that it has more numbers than there are."""
    import h5py  # which comes with Keras

    def name_if_short(name, node):
        is_array = isinstance(node, h5py.Dataset)
        return name if is_array and node.id.get_storage_size() < node.nbytes else None

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
            if WEIGHTS not in archive.namelist():
                raise ValueError(f"it has no {WEIGHTS}")
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
