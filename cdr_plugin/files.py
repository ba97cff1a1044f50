"""Durable local files: written whole under a temporary name, fsynced, renamed, folder fsynced."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdr_plugin.errors import NotConvenientError, RemoteError, StorageFullError
from cdr_plugin.model.blobs import Buffer

TEMPORARY_PREFIX = ".tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT}


def write_durably(path: Path, data: Buffer, *, mode: int = 0o600) -> None:
    """``path`` holds ``data`` and survives a power cut; it is never seen half written."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}.{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            _write_all(descriptor, memoryview(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(path, error) from error


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def storage_error(path: Path, error: OSError) -> RemoteError:
    """The error class for a failed write: a full disk is back-pressure, not failure."""
    if error.errno in _FULL:
        return StorageFullError(f"{path}: {error.strerror}; make room and run the command again")
    return RemoteError(f"{path}: {error.strerror or error}")


def sync_folder(folder: Path) -> None:
    """Make renames and removals in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """Sizes of all files below ``folder`` together; what vanishes meanwhile does not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:
                continue
    return total


def remove_temporaries(folder: Path) -> None:
    """Remove what a crash left; only for the one process that writes into ``folder``."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold ``path`` as a lock file; NotConvenientError when another process does ``what``."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotConvenientError(f"another process is at it already: {what} ({path}); try again later") from None
        yield
    finally:
        os.close(descriptor)
