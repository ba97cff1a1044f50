"""Writes the contents of many files in one reading of the packs.

Blobs come in the order that is cheapest to read; each is written to every place that wants it.
Files of one blob are finished at once, the others stay open (at most 64) or are reopened.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeAlias

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import CdrError, FormatError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.restore.contents import NEW_FILE, put_blob, read_back
from cdr_plugin.restore.folders import Folders
from cdr_plugin.restore.metadata import Applied, apply_to_fd
from cdr_plugin.restore.pending import PendingFile, wrong_size
from cdr_plugin.restore.placing import Places, discard
from cdr_plugin.restore.tally import Tally
from cdr_plugin.restore.whole_files import WholeFiles

_AGAIN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_OPEN_FILES = 64

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
        self._whole = WholeFiles(folders, places, self._settle_whole, verify=verify, sparse=sparse)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._whole.close()

    def write_empty(self, file: PendingFile) -> None:
        """Create a file without content, at the latest when ``write`` returns."""
        self._whole.add(file, b"")

    def write(self, files: Sequence[PendingFile]) -> None:
        """Write all contents. What fails is reported by file; RemoteError ends everything, and
        then no temporary file stays."""
        try:
            wanted = self._wanted(files)
            for id_, data in self._read(list(wanted)):
                for file, offset in wanted.pop(id_, ()):
                    if file.failed:
                        continue
                    if len(file.ids) == 1 and not isinstance(data, CdrError):
                        self._whole.add(file, data)
                    else:
                        self._write_blob(file, offset, data)
            self._whole.drain()
            for id_, places in wanted.items():
                for file, _ in places:
                    self._fail(file, NotFoundError(f"data blob {id_.hex()[:10]} was not delivered"))
        finally:
            for file in [file for file in files if file.temporary]:
                self._abandon(file)

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
        else:
            self._write_part(file, offset, data)

    def _write_part(self, file: PendingFile, offset: int, data: bytes) -> None:
        try:
            fd = self._descriptor(file)
            file.holes |= put_blob(fd, offset, data, sparse=self._sparse)
            self._tally.wrote(len(data))
            file.left -= 1
            if not file.left:
                self._complete(file, fd)
        except (OSError, ValueError, IntegrityError) as error:
            self._fail(file, error)

    def _descriptor(self, file: PendingFile) -> int:
        fd = self._open.get(file)
        if fd is not None:
            self._open.move_to_end(file)
            return fd
        dir_fd = self._folders.fd(file.folder)
        if file.temporary:
            fd = os.open(file.temporary, _AGAIN, dir_fd=dir_fd)
        else:
            file.temporary = self._places.temporary()
            fd = os.open(file.temporary, NEW_FILE, 0o600, dir_fd=dir_fd)
        self._open[file] = fd
        if len(self._open) > _MAX_OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _complete(self, file: PendingFile, fd: int) -> None:
        if file.holes:
            os.ftruncate(fd, file.size)
        if self._verify:
            read_back(fd, file.size, file.ids, self._sizes)
        applied = apply_to_fd(fd, file.metadata, clean=file.folder.inherits)
        os.close(self._open.pop(file))
        temporary, file.temporary = file.temporary, b""
        self._places.take(self._folders.fd(file.folder), file.folder, temporary, file.name)
        self._settle(file, applied)

    def _settle_whole(self, file: PendingFile, outcome: Applied | Exception) -> None:
        if isinstance(outcome, Exception):
            self._fail(file, outcome)
        else:
            self._tally.wrote(file.size)
            self._settle(file, outcome)

    def _settle(self, file: PendingFile, applied: Applied) -> None:
        file.done = True
        self._tally.restored(file.folder, file.name, file.size, existed=file.existed)
        self._tally.applied(file.folder, file.name, applied)

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
            discard(self._folders.fd(file.folder), file.temporary)


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
        raise wrong_size(file, offset)
    return offsets
