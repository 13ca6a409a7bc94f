"""Files of token ids, which are made once for a text and a tokenizer, and mapped from then on."""

import bisect
import contextlib
import hashlib
import itertools
import json
import mmap
import os
import pathlib
import time
from collections.abc import Sequence

import numpy as np

from neo_keras.atomic_files import PARTIAL_PREFIX, atomic_write
from neo_keras.environment import cache_directory
from neo_keras.errors import FailedError

_FORMAT = "neo_keras tokens 2"  # of the file, and of how a text is cut and encoded
_HEADER_BYTES = 256
_DTYPES = ("uint8", "uint16", "uint32")
COUNTS = ("num_chars", "num_unknown", "unknown_bytes")  # of `EncodedText`
_READS_PER_RELEASE = 500  # of some 64 KB each: a system maps what is near, too


def token_files_directory() -> pathlib.Path:
    """Where the files lie: a cache, of which anything may be deleted at any time."""
    return cache_directory() / "tokens"


def token_file(*content: str) -> pathlib.Path:
    """The file for the tokens of some content: all that they depend on."""
    digest = hashlib.sha256("\n".join([_FORMAT, *content]).encode())
    return token_files_directory() / f"{digest.hexdigest()}.tokens"


def read_tokens(path: os.PathLike) -> tuple[np.memmap, dict[str, int]]:
    """Maps a file of tokens into memory; raises `OSError` or, if it is damaged, `ValueError`.

    Returns:
        (unsigned int [num_tokens], the counts that `write_tokens` was given)
    """
    with open(path, "rb") as file:
        header = _parse_header(file.read(_HEADER_BYTES))
    token_ids = np.memmap(path, header["dtype"], "r", offset=_HEADER_BYTES)
    if len(token_ids) != header["num_tokens"]:
        raise ValueError(f"{len(token_ids)} of {header['num_tokens']} tokens")
    _advise(token_ids, "MADV_RANDOM")
    return token_ids, {name: header[name] for name in COUNTS}


def _advise(token_ids, name):
    if hasattr(mmap, name):  # not on every system
        token_ids._mmap.madvise(getattr(mmap, name))


def _parse_header(data):
    header = json.loads(data)
    with contextlib.suppress(TypeError, KeyError):
        are_counts = all(isinstance(header[name], int) for name in ("num_tokens", *COUNTS))
        if are_counts and header["format"] == _FORMAT and header["dtype"] in _DTYPES:
            return header
    raise ValueError("the header is not that of a file of tokens")


def write_tokens(path: os.PathLike, parts: Sequence[np.ndarray], counts: dict[str, int]):
    """Writes a file of tokens, all of it or nothing; raises `FailedError` if it cannot.

    Args:
        path: The file.
        parts: The token ids, all of one dtype, which are at least one array.
        counts: A value for each of `COUNTS`.
    """
    dtype, num_tokens = str(parts[0].dtype), sum(map(len, parts))
    header = {"format": _FORMAT, "dtype": dtype, "num_tokens": num_tokens, **counts}
    directory = pathlib.Path(path).parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_remains(directory)
        with atomic_write(path) as partial, open(partial, "wb") as file:
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
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            if time.time() - path.stat().st_mtime > 86_400:
                path.unlink()


class ConcatTokens:
    """Arrays of token ids of one dtype, in memory or mapped, to be read as if they were one."""

    def __init__(self, arrays: Sequence[np.ndarray]):
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
                if isinstance(array, np.memmap):
                    _advise(array, "MADV_DONTNEED")
        parts, i = [], bisect.bisect(self._stops, start)
        while start < stop:
            array = self._arrays[i]
            before = self._stops[i] - len(array)
            parts.append(array[start - before : stop - before])
            start += len(parts[-1])
            i += 1
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, self.dtype), *parts])
