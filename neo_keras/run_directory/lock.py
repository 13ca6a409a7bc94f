"""Keeps two processes from writing to one place."""

import errno
import os
import warnings

from neo_keras.errors import InputError

# A file system without locks, such as a network drive, says one of these.
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL}


def hold(path, busy):
    """Takes the lock of a file, which is made; the file stays, and locks nothing by itself.

    Args:
        path: of the file.
        busy: what to say if another process holds it.

    Returns:
        An object to keep. The lock is this process's until the last such object, or the process,
        is gone; None, after a warning, where the file system has no locks.

    Raises:
        InputError: another process holds it.
        OSError: the file cannot be made.
    """
    import filelock  # which a process that only generates does without

    path = os.path.realpath(path)
    # A singleton: who holds the lock twice in one process holds one lock.
    lock = filelock.FileLock(path, is_singleton=True, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise InputError(busy) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{os.path.dirname(path)} is on a file system without locks: let one process at a time "
            "write there",
            stacklevel=2,
        )
        return None
    return lock
