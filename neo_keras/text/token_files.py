"""Files of token ids, which are made once for a text and a tokenizer, and mapped from then on."""

import hashlib
import json
import mmap
import os
import pathlib
import time
from collections.abc import Iterable

import numpy as np

from neo_keras.errors import FailedError
from neo_keras.files import PARTIAL_PREFIX, complete_or_absent

_FORMAT = "neo_keras tokens 1"  # of the file, and of how a text is cut and encoded
_HEADER_BYTES = 256
_DTYPES = ("uint8", "uint16", "uint32")
COUNTS = ("num_chars", "num_unknown", "unknown_bytes")  # of `EncodedText`
_SECONDS_OF_A_DAY = 86_400


def token_files_directory() -> pathlib.Path:
    """Where the files lie: a cache, of which anything may be deleted at any time."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(cache) / "neo_keras" / "tokens"


def token_file(*content: str) -> pathlib.Path:
    """The file for the tokens of some content.

    Args:
        *content: What the tokens depend on.
    """
    digest = hashlib.sha256("\n".join([_FORMAT, *content]).encode())
    return token_files_directory() / f"{digest.hexdigest()}.tokens"


class MappedTokens:
    """Token ids in a file, of which no more is in memory than is being read.

    Args:
        path: A file that `write_tokens` made.

    Attributes:
        dtype: Of the ids: uint8, uint16 or uint32.
        counts: What `write_tokens` was given.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged.
    """

    def __init__(self, path: os.PathLike):
        with open(path, "rb") as file:
            header = _parse_header(file.read(_HEADER_BYTES))
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.counts = {name: header[name] for name in COUNTS}
        self.dtype = np.dtype(header["dtype"])
        self._token_ids = np.frombuffer(self._map, self.dtype, offset=_HEADER_BYTES)
        if len(self._token_ids) != header["num_tokens"]:
            raise ValueError(f"{len(self._token_ids)} of {header['num_tokens']} tokens")
        self._advise("MADV_RANDOM")

    def __len__(self) -> int:
        return len(self._token_ids)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Copies token ids.

        Args:
            places: int, any shape.

        Returns:
            The ids that stand there.
        """
        token_ids = self._token_ids[places]
        # Else all of a file that is larger than memory would, page by page, become this process's.
        self._advise("MADV_DONTNEED")
        return token_ids

    def _advise(self, name):
        if hasattr(mmap, name):  # not on every system
            self._map.madvise(getattr(mmap, name))


def _parse_header(data):
    try:
        header = json.loads(data)
        fields = [header[name] for name in ("num_tokens", *COUNTS)]
        if header["format"] == _FORMAT and header["dtype"] in _DTYPES:
            if all(isinstance(field, int) for field in fields):
                return header
    except (TypeError, KeyError):
        pass
    raise ValueError("the header is not that of a file of tokens")


def open_tokens(path: os.PathLike) -> MappedTokens | None:
    """Maps the tokens in a file; None if it is missing or damaged, and has to be made."""
    try:
        return MappedTokens(path)
    except (OSError, ValueError):
        return None


def write_tokens(path: os.PathLike, parts: Iterable[np.ndarray], counts: dict[str, int]):
    """Writes the file of tokens, all of it or nothing.

    Args:
        path: The file.
        parts: The token ids, all of one dtype.
        counts: A value for each of `COUNTS`.

    Raises:
        FailedError: It cannot be written.
    """
    parts = list(parts)
    header = {
        "format": _FORMAT,
        "dtype": str(parts[0].dtype),
        "num_tokens": sum(map(len, parts)),
        **counts,
    }
    directory = pathlib.Path(path).parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_remains(directory)
        with complete_or_absent(path) as partial, open(partial, "wb") as file:
            file.write(json.dumps(header).encode().ljust(_HEADER_BYTES))
            for part in parts:
                file.write(part)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise FailedError(
            f"cannot write the text's token ids to {directory} ({reason}): make room there, or set "
            "XDG_CACHE_HOME to another directory"
        ) from None


def _remove_remains(directory):
    """Removes what killed processes left; what is younger than a day may still be written."""
    for path in directory.glob(f"{PARTIAL_PREFIX}*"):
        try:
            if time.time() - path.stat().st_mtime > _SECONDS_OF_A_DAY:
                path.unlink()
        except FileNotFoundError:  # another process was faster
            pass


class JoinedTokens:
    """Token ids of several arrays, one after another, as if they were one.

    Args:
        arrays: NumPy arrays or `MappedTokens`, all of one dtype.

    Attributes:
        dtype: Of the ids.
    """

    def __init__(self, arrays):
        self.dtype = arrays[0].dtype
        self._arrays = arrays
        self._stops = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        return int(self._stops[-1])

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Copies token ids.

        Args:
            places: int, any shape, from 0 on.

        Returns:
            The ids that stand there: unsigned int, the same shape.
        """
        places = np.asarray(places)
        token_ids = np.empty(places.shape, self.dtype)
        which = np.searchsorted(self._stops, places, side="right")
        for i in np.unique(which):
            here = which == i
            array = self._arrays[i]
            token_ids[here] = array[places[here] - (self._stops[i] - len(array))]
        return token_ids
