"""Putting blobs into open files, and reading them back."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256

from cdr_plugin.errors import IntegrityError
from cdr_plugin.model.blobs import BlobId

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HOLE_BYTES = 4096
"""Shorter runs of zeros save no block on any usual file system."""
_READ_BACK_BYTES = 1024 * 1024


def put_blob(fd: int, offset: int, data: bytes, *, sparse: bool) -> bool:
    """Write a blob; with ``sparse`` only what is left of it between zeros. True when zeros at its
    end were left out, so that the file must be truncated to its size. OSError."""
    start, end = _ends(data) if sparse else (0, len(data))
    view = memoryview(data)
    while start < end:
        start += os.pwrite(fd, view[start:end], offset + start)
    return end < len(data)


def _ends(data: bytes) -> tuple[int, int]:
    """Where the bytes of a blob begin and end, without zeros that are worth a hole."""
    size = len(data)
    if size < _HOLE_BYTES or (data[0] and data[-1]):
        return 0, size
    start = size - len(data.lstrip(b"\0"))
    end = len(data.rstrip(b"\0"))
    return (start if start >= _HOLE_BYTES else 0), (end if size - end >= _HOLE_BYTES else size)


def read_back(fd: int, size: int, ids: Sequence[BlobId], sizes: Mapping[BlobId, int | None]) -> None:
    """IntegrityError unless an open file of ``size`` bytes holds the blobs ``ids``.

    ``sizes`` may leave out the blob of a file that has only one.
    """
    offset = 0
    for id_ in ids:
        length = size if len(ids) == 1 else sizes[id_] or 0
        if _hash_range(fd, offset, length) != id_:
            raise IntegrityError(f"reading it back gave other bytes at offset {offset}; check the disk")
        offset += length
    if os.fstat(fd).st_size != size:
        raise IntegrityError(f"it has another size than {size} bytes; check the disk")


def _hash_range(fd: int, offset: int, length: int) -> bytes:
    digest = sha256()
    end = offset + length
    while offset < end and (part := os.pread(fd, min(_READ_BACK_BYTES, end - offset), offset)):
        digest.update(part)
        offset += len(part)
    return digest.digest()
