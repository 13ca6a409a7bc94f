"""Files of token ids, which are made once for a text and a tokenizer, and mapped from then on."""

import bisect
import hashlib
import itertools
import mmap
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from neo_keras.atomic_files import atomic_write, remove_partial
from neo_keras.environment import cache_directory
from neo_keras.errors import FailedError

_FORMAT = "neo_keras tokens 3"  # of the files, and of how a text is cut and encoded
_HEADER = np.dtype([("format", "S24"), ("num_tokens", "i8"), ("counts", "i8", 3)])
_READS_PER_RELEASE = 500  # of some 64 KB each: a system maps what is near, too


def token_files_directory() -> pathlib.Path:
    """Where the files lie: a cache, of which anything may be deleted at any time."""
    return cache_directory() / "tokens"


def file_of(*content: str, suffix: str = ".tokens") -> pathlib.Path:
    """The file for what depends on some content."""
    digest = hashlib.sha256(_FORMAT.encode())
    for text in content:
        digest.update(text.encode())
    return token_files_directory() / f"{digest.hexdigest()}{suffix}"


def read_tokens(path: os.PathLike, dtype: np.dtype) -> tuple[np.memmap, np.ndarray]:
    """(dtype [num_tokens], mapped; the counts); raises `OSError` or `ValueError` if damaged."""
    (header,) = np.fromfile(path, _HEADER, 1)
    token_ids = np.memmap(path, dtype, "r", offset=_HEADER.itemsize)
    if header["format"] != _FORMAT.encode() or header["num_tokens"] != len(token_ids):
        raise ValueError(f"{path} is damaged")
    _advise(token_ids, "MADV_RANDOM")
    return token_ids, header["counts"]


def _advise(token_ids, name):
    if hasattr(mmap, name):  # not on every system
        token_ids._mmap.madvise(getattr(mmap, name))


def write_tokens(path: os.PathLike, token_ids: np.ndarray, counts: Sequence[int]):
    """Writes token ids and three counts, as `write_file` does."""
    header = np.array((_FORMAT, len(token_ids), counts), _HEADER)
    write_file(path, header.tobytes(), token_ids)


def write_file(path: os.PathLike, *parts):
    """Writes bytes to the cache, all of them or nothing; raises `FailedError` if it cannot."""
    directory = pathlib.Path(path).parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_partial(directory)
        with atomic_write(path) as partial, open(partial, "wb") as file:
            file.writelines(parts)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise FailedError(
            f"cannot write the text's token ids to {directory} ({reason}): make room there, or set "
            "XDG_CACHE_HOME to another directory"
        ) from None


class ConcatTokens:
    """Arrays of token ids of one dtype, mapped from files, to be read as if they were one."""

    def __init__(self, arrays: Sequence[np.memmap]):
        self.dtype = arrays[0].dtype
        self._arrays = arrays
        self._stops = list(itertools.accumulate(map(len, arrays)))
        self._num_reads = 0

    def __len__(self) -> int:
        return self._stops[-1]

    def __getitem__(self, span: slice) -> np.ndarray:
        """Token ids that stand side by side: unsigned int [num_tokens]; a step is not allowed."""
        start, stop, step = span.indices(len(self))
        if step != 1:
            raise ValueError(f"expected a slice without a step, got a step of {step}")
        self._num_reads += 1
        if self._num_reads % _READS_PER_RELEASE == 0:
            # Else a text that is larger than memory would, page by page, become this process's.
            for array in self._arrays:
                _advise(array, "MADV_DONTNEED")
        parts, i = [np.empty(0, self.dtype)], bisect.bisect(self._stops, start)
        while start < stop:
            place = start - self._stops[i]  # from the end of the array
            parts.append(self._arrays[i][place:][: stop - start])
            start, i = self._stops[i], i + 1
        return np.concatenate(parts)
