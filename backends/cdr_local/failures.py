"""Turns errors of the operating system into CDR's, with the object that they hit."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from cdr_plugin.errors import RemoteError, StorageFullError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translated(doing: str, where: str) -> Iterator[None]:
    """Raise what the block meets as OSError as RemoteError: ``<doing> <where>: <reason>``."""
    try:
        yield
    except OSError as error:
        raise translate(error, doing, where) from error


def translate(error: OSError, doing: str, where: str) -> RemoteError:
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return StorageFullError(f"{doing} {where}: {reason}; free some space there, the work goes on later")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return RemoteError(f"{doing} {where}: a symbolic link or a file is where a folder should be")
    return RemoteError(f"{doing} {where}: {reason}")
