"""Puts payloads together that span segments, in bounded memory."""

from __future__ import annotations

import errno
import mmap
import tempfile
from pathlib import Path
from typing import IO

from cdr_plugin.errors import FormatError, RemoteError, StorageFullError
from cdr_plugin.model.blobs import Payload
from cdr_plugin.parcel.blobrefs import BlobRef
from cdr_plugin.parcel.limits import MEMORY_PART_BYTES
from cdr_plugin.parcel.records import FirstPart, Part


class PartAssembler:
    """Takes the parts of one parcel in order; at most one payload is open.

    Memory grows with the bytes that came, not with those declared, and stays below 64 MiB: longer
    payloads grow in a nameless temporary file of ``folder`` and are given out mapped.
    """

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_PART_BYTES) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._first: FirstPart | None = None
        self._sequence = 0
        self._size = 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    @property
    def open(self) -> BlobRef | None:
        """The blob whose parts are incomplete."""
        return None if self._first is None else (self._first.type, self._first.id)

    def add(self, part: FirstPart | Part) -> Payload | None:
        """The payload that this part completes.

        FormatError for a part that does not continue what is open; then nothing is open any more,
        and the blob that was is lost: the version's commit will find it missing.
        """
        try:
            if isinstance(part, FirstPart):
                self._begin(part)
                return None
            return self._continue(part)
        except BaseException:
            self.drop()
            raise

    def drop(self) -> BlobRef | None:
        """Forget the open payload, as after a gap in the parcel; which blob it was."""
        lost = self.open
        if self._file is not None:
            self._file.close()
        self._first, self._file, self._memory = None, None, bytearray()
        return lost

    def _begin(self, first: FirstPart) -> None:
        if self._first is not None:
            raise FormatError(f"blob {self._first.id.hex()[:10]}: its last parts never came")
        self._first, self._sequence, self._size = first, 0, 0
        if first.total > self._memory_bytes:
            self._file = self._temporary()
        self._append(first.data)

    def _continue(self, part: Part) -> Payload | None:
        first = self._first
        if first is None or (part.type, part.id) != (first.type, first.id) or part.sequence != self._sequence + 1:
            raise FormatError(f"blob {part.id.hex()[:10]}: part {part.sequence} without the part before")
        size = self._size + len(part.data)
        if size > first.total or part.last != (size == first.total):
            raise FormatError(f"blob {part.id.hex()[:10]}: its parts have not the {first.total} bytes declared")
        self._sequence = part.sequence
        self._append(part.data)
        return self._complete(first) if part.last else None

    def _append(self, data: bytes) -> None:
        self._size += len(data)
        if self._file is None:
            self._memory += data
            return
        try:
            self._file.write(data)
        except OSError as error:
            raise self._storage_error(error) from None

    def _complete(self, first: FirstPart) -> Payload:
        data: bytearray | memoryview = self._memory
        if self._file is not None:
            try:
                self._file.flush()
                # The mapping keeps the file alive until the payload is forgotten.
                data = memoryview(mmap.mmap(self._file.fileno(), first.total, access=mmap.ACCESS_READ))
            except OSError as error:
                raise self._storage_error(error) from None
        self.drop()
        return Payload(first.type, first.id, first.method, first.length, data)

    def _temporary(self) -> IO[bytes]:
        try:
            return tempfile.TemporaryFile(dir=self._folder)
        except OSError as error:
            raise self._storage_error(error) from None

    def _storage_error(self, error: OSError) -> RemoteError:
        text = f"temporary file in {self._folder}: {error.strerror}"
        return StorageFullError(text) if error.errno in (errno.ENOSPC, errno.EDQUOT) else RemoteError(text)
