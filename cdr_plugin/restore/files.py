"""Writes the contents of many files in one reading of the packs.

Blobs come in the order that is cheapest to read; each is written to every place that wants it.
Files of one blob are finished at once, the others stay open (at most 64) or are reopened.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import TypeAlias

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import CdrError, FormatError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.restore.folders import Folder, Folders
from cdr_plugin.restore.metadata import Metadata, apply_to_fd
from cdr_plugin.restore.placing import Places
from cdr_plugin.restore.tally import Tally

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_AGAIN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN_FILES = 64
_HOLE_BYTES = 4096
"""Shorter runs of zeros save no block on any usual file system."""
_READ_BACK_BYTES = 1024 * 1024


class PendingFile:
    """A file whose content is to be written. ``left`` counts the blobs that are missing;
    ``failed`` files ignore what still comes for them."""

    __slots__ = ("done", "failed", "folder", "holes", "ids", "left", "metadata", "name", "size", "temporary")

    def __init__(
        self, folder: Folder, name: bytes, size: int, ids: Sequence[BlobId], metadata: Metadata
    ) -> None:
        self.folder = folder
        self.name = name
        self.size = size
        self.ids = ids
        self.metadata = metadata
        self.left = len(ids)
        self.temporary = b""
        self.holes = False
        self.failed = False
        self.done = False


_Place: TypeAlias = tuple[PendingFile, int]
"""A file, and where in it a blob belongs (bytes)."""


class FileWriter:
    """Creates regular files. Use as a context; leaving it removes what is unfinished."""

    def __init__(
        self,
        reader: RepositoryReader,
        folders: Folders,
        places: Places,
        tally: Tally,
        *,
        verify: bool,
        sparse: bool,
    ) -> None:
        self._reader = reader
        self._folders = folders
        self._places = places
        self._tally = tally
        self._verify = verify
        self._sparse = sparse
        self._open: OrderedDict[PendingFile, int] = OrderedDict()
        self._sizes: dict[BlobId, int | None] = {}

    def write_empty(self, file: PendingFile) -> None:
        """Create a file without content at once."""
        self._write_whole(file, b"")

    def write(self, files: Sequence[PendingFile]) -> None:
        """Write all contents. What fails is reported by file; RemoteError ends everything, and
        then no temporary file stays."""
        wanted = self._wanted(files)
        try:
            for id_, data in self._read(list(wanted)):
                for file, offset in wanted.pop(id_, ()):
                    if not file.failed:
                        self._write_blob(file, offset, data)
            for id_, places in wanted.items():
                for file, _ in places:
                    self._fail(file, NotFoundError(f"data blob {id_.hex()[:10]} was not delivered"))
        finally:
            self._close_all(files)

    def _wanted(self, files: Sequence[PendingFile]) -> dict[BlobId, list[_Place]]:
        """Where each blob goes. Files whose size is not that of their blobs fail here."""
        wanted: dict[BlobId, list[_Place]] = {}
        self._sizes = self._sizes_of([file for file in files if file.left > 1])
        for file in files:
            if file.left == 1:
                wanted.setdefault(file.ids[0], []).append((file, 0))
                continue
            try:
                offsets = _offsets(file, self._sizes)
            except (NotFoundError, FormatError) as error:
                self._fail(file, error)
                continue
            for id_, offset in zip(file.ids, offsets, strict=True):
                wanted.setdefault(id_, []).append((file, offset))
        return wanted

    def _sizes_of(self, files: Sequence[PendingFile]) -> dict[BlobId, int | None]:
        ids = list({id_ for file in files for id_ in file.ids})
        return dict(zip(ids, self._reader.sizes(BlobType.DATA, ids), strict=True)) if ids else {}

    def _read(self, ids: list[BlobId]) -> Iterator[tuple[BlobId, bytes | CdrError]]:
        """Every blob, or why it cannot be read. Around a broken one the request is halved until
        that one is alone, so that it costs only the files that need it."""
        requests = [ids] if ids else []
        while requests:
            missing = dict.fromkeys(requests.pop())
            try:
                for id_, data in self._reader.read_many(BlobType.DATA, list(missing)):
                    missing.pop(id_, None)
                    yield id_, data
            except (NotFoundError, IntegrityError) as error:
                rest = list(missing)
                if len(rest) == 1:
                    yield rest[0], error
                elif rest:
                    requests += [rest[len(rest) // 2 :], rest[: len(rest) // 2]]

    def _write_blob(self, file: PendingFile, offset: int, data: bytes | CdrError) -> None:
        if isinstance(data, CdrError):
            self._fail(file, data)
        elif len(file.ids) == 1:
            self._write_whole(file, data)
        else:
            self._write_part(file, offset, data)

    def _write_whole(self, file: PendingFile, data: bytes) -> None:
        """A file of at most one blob, from nothing to its final name."""
        try:
            if len(data) != file.size:
                raise _wrong_size(file, len(data))
            fd = self._create(file)
            try:
                self._put(file, fd, 0, data)
                self._complete(file, fd)
            finally:
                os.close(fd)
            self._take(file)
        except (OSError, ValueError, IntegrityError) as error:
            self._fail(file, error)

    def _write_part(self, file: PendingFile, offset: int, data: bytes) -> None:
        try:
            fd = self._descriptor(file)
            self._put(file, fd, offset, data)
            file.left -= 1
            if file.left:
                return
            self._complete(file, fd)
            os.close(self._open.pop(file))
            self._take(file)
        except (OSError, ValueError, IntegrityError) as error:
            self._fail(file, error)

    def _create(self, file: PendingFile) -> int:
        file.temporary = self._places.temporary()
        return os.open(file.temporary, _NEW, 0o600, dir_fd=self._folders.fd(file.folder))

    def _descriptor(self, file: PendingFile) -> int:
        fd = self._open.get(file)
        if fd is not None:
            self._open.move_to_end(file)
            return fd
        if file.temporary:
            fd = os.open(file.temporary, _AGAIN, dir_fd=self._folders.fd(file.folder))
        else:
            fd = self._create(file)
        self._open[file] = fd
        if len(self._open) > _MAX_OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _put(self, file: PendingFile, fd: int, offset: int, data: bytes) -> None:
        """Write a blob, or where holes are wanted what is left of it between zeros."""
        start, end = _ends(data) if self._sparse else (0, len(data))
        if end < len(data):
            file.holes = True
        view = memoryview(data)
        while start < end:
            start += os.pwrite(fd, view[start:end], offset + start)
        self._tally.wrote(len(data))

    def _complete(self, file: PendingFile, fd: int) -> None:
        if file.holes:
            os.ftruncate(fd, file.size)
        if self._verify:
            read_back(fd, file.size, file.ids, self._sizes)
        self._tally.attributes(apply_to_fd(fd, file.metadata, clean=file.folder.inherits))

    def _take(self, file: PendingFile) -> None:
        temporary, file.temporary = file.temporary, b""
        self._places.take(file.folder, temporary, file.name)
        file.done = True
        self._tally.restored()

    def _fail(self, file: PendingFile, error: Exception) -> None:
        if not file.failed:
            self._abandon(file)
            self._tally.failed(file.folder, file.name, error)

    def _abandon(self, file: PendingFile) -> None:
        file.failed = True
        fd = self._open.pop(file, None)
        if fd is not None:
            os.close(fd)
        if file.temporary:
            self._places.discard(file.folder, file.temporary)

    def _close_all(self, files: Sequence[PendingFile]) -> None:
        for file in files:
            if not file.done and not file.failed:
                self._abandon(file)


def _offsets(file: PendingFile, sizes: Mapping[BlobId, int | None]) -> list[int]:
    """Where each blob of a file begins; NotFoundError, FormatError when they do not add up."""
    offsets = []
    offset = 0
    for id_ in file.ids:
        size = sizes[id_]
        if size is None:
            raise NotFoundError(f"data blob {id_.hex()[:10]} is not in the repository")
        offsets.append(offset)
        offset += size
    if offset != file.size:
        raise _wrong_size(file, offset)
    return offsets


def _wrong_size(file: PendingFile, size: int) -> FormatError:
    return FormatError(f"its blobs hold {size} bytes, but the tree says {file.size}; not restored")


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
