"""Puts of files that were cut off and go on: the partial file of an object, as long as its bytes are the file's.

::

    partial name --locked; kept as far as it agrees; rest copied; fsync--> linked to the final name

The name follows from the object's, so that the next process finds it. One put at a time works on it,
under a lock that ends with its process; another one of the same object starts a file of its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256

from . import files
from .failures import FULL

PARTIAL = ".cdr-part-"
"""Names of partial files start so; object names never start with a dot."""
_NOT_OURS = (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM)


def partial_name(leaf: str) -> str:
    """Hashed, since a leaf of 255 bytes leaves no room for a prefix."""
    return PARTIAL + sha256(leaf.encode()).hexdigest()[:32]


def place(source: int, folder: int, leaf: str, travelled: Callable[[int], None]) -> tuple[bool, int]:
    """Make the file ``leaf`` of the bytes of ``source``; whether it is new, and how many bytes an earlier
    put had left. OSError; after any exception but "no space left" the next put goes on from here."""
    name = partial_name(leaf)
    with _claimed(folder, name) as partial:
        if partial is None:
            os.lseek(source, 0, os.SEEK_SET)
            return files.write_new(folder, leaf, lambda fd: files.copy_contents(source, fd, travelled)), 0
        there = _keep_agreeing(partial, source)
        try:
            files.copy_contents(source, partial, travelled)
            os.fsync(partial)
        except OSError as error:
            if error.errno in FULL:  # what may never be finished must not hold the last room
                os.unlink(name, dir_fd=folder)
            raise
        is_new = files.publish(folder, name, leaf)
        with suppress(FileNotFoundError):  # renamed, where there are no links
            os.unlink(name, dir_fd=folder)
        return is_new, there


@contextmanager
def _claimed(folder: int, name: str) -> Iterator[int | None]:
    """The partial file, new or left over, ours alone until the block ends; None when it cannot be."""
    descriptor, is_new = _opened(folder, name)
    if descriptor is None:
        yield None
        return
    try:
        if (is_new or _is_own(descriptor)) and _locked(descriptor) and _is_at(descriptor, folder, name):
            os.utime(descriptor)  # else it might be swept under us
            yield descriptor
        else:
            yield None
    finally:
        os.close(descriptor)


def _opened(folder: int, name: str) -> tuple[int | None, bool]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with suppress(FileExistsError):
            return os.open(name, flags | os.O_EXCL, 0o666, dir_fd=folder), True
        return os.open(name, flags, 0o666, dir_fd=folder), False
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None, False
        raise


def _is_own(descriptor: int) -> bool:
    """Not planted by somebody who may write here, and would write on when we have published it."""
    status = os.fstat(descriptor)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another put is at it, or this mount has no locks
        return False
    return True


def _is_at(descriptor: int, folder: int, name: str) -> bool:
    """Still under its name: another put may have published it before we got the lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(name, dir_fd=folder))
    except FileNotFoundError:
        return False


def _keep_agreeing(partial: int, source: int) -> int:
    """Cut ``partial`` to what agrees with ``source``, and put both behind it; how many bytes that are."""
    agreeing = files.agreeing_bytes(partial, source)
    os.ftruncate(partial, agreeing)
    os.lseek(partial, agreeing, os.SEEK_SET)
    os.lseek(source, agreeing, os.SEEK_SET)
    return agreeing
