"""Reading files: small ones many at a time, big ones as a stream through a splitter.

Everything that takes time (open, read, SHA-256, finding cuts, and what the sink does) releases the
GIL, so the threads here and the walking thread share the processor instead of taking turns.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from cdr_plugin import kernel
from cdr_plugin.archiver.catalog import OldEntry
from cdr_plugin.archiver.options import BlobSink
from cdr_plugin.archiver.origin import NewBlob, Origin
from cdr_plugin.archiver.origins import Origins
from cdr_plugin.archiver.stats import pack_stat
from cdr_plugin.archiver.walk import Folder
from cdr_plugin.contracts import Splitter
from cdr_plugin.model.blobs import BlobId, BlobType, blob_id

if TYPE_CHECKING:
    from cdr_plugin.archiver.stream import Stream

_PIECE = 1 << 20
"""Bytes per read of a stream: large enough to hide the call, small enough to overlap with hashing."""

_SMALL = 1 << 20
"""Files above this are streamed, however large the splitter's minimum is."""

_GROWTH = 1 << 30
"""A file may double while it is read, or grow by 1 GiB, and is read to its end. One that grows more
does so as fast as it is read (a log of ours, a pipe in disguise) and would never end."""

CHANGED = "changed while it was being read; stored as it was read, and read again next time"
_VANISHED = "vanished before it could be read"
_NOT_REGULAR = "is no longer a regular file"


@dataclass(slots=True)
class Readings:
    """What came of reading files of one folder, by name; complete when its batches are done.

    ``contents``: packed content IDs. ``stats``: the stat record at opening, where it is not the one
    of the scan. ``sizes``: bytes read, where they are not the size in the record. ``failed``: why a
    file is left out. ``doubtful``: files that must be read again, with why, or "" when nothing is
    to be said about it.
    """

    contents: dict[bytes, bytes] = field(default_factory=dict)
    stats: dict[bytes, bytes] = field(default_factory=dict)
    sizes: dict[bytes, int] = field(default_factory=dict)
    failed: dict[bytes, str] = field(default_factory=dict)
    doubtful: dict[bytes, str] = field(default_factory=dict)

    @property
    def are_plain(self) -> bool:
        """Did every file turn out as the scan saw it?"""
        return not (self.stats or self.sizes or self.failed or self.doubtful)


@dataclass(slots=True, eq=False)
class Portion:
    """Files of one folder that are read in one go; ``stats`` are their records in the scan, ``old`` what the
    folder had last time."""

    folder: Folder
    readings: Readings
    old: Mapping[bytes, OldEntry]
    names: list[bytes] = field(default_factory=list)
    stats: list[bytes] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Batch:
    """Portions that one task reads; ``future`` is set when it has been submitted."""

    portions: list[Portion] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    future: Future[None] | None = None

    @property
    def done(self) -> bool:
        return self.future is not None and self.future.done()


class FileReader:
    """Reads, splits and hashes files and hands the blobs to the sink; used by several threads.

    ``origins``: None when there is no old catalog. ``stable``: see ``Locator.stable``.
    """

    def __init__(
        self,
        sink: BlobSink,
        splitter: Callable[[], Splitter],
        hashers: ThreadPoolExecutor,
        stop: threading.Event,
        in_flight: int,
        origins: Origins | None,
        stable: Callable[[bytes], bytes],
    ) -> None:
        self._stable = stable
        self._sink = sink
        self._origins = origins
        self._splitter = splitter
        self._hashers = hashers
        self._stop = stop
        self._in_flight = in_flight
        self._local = threading.local()
        self.small = min(splitter().min_size, _SMALL)

    def read(self, batch: Batch) -> None:
        """Read small files, fill their readings, and give their blobs to the sink at once."""
        blobs: list[NewBlob] = []
        for portion in batch.portions:
            if self._stop.is_set():
                return
            self._read_portion(portion, blobs)
        if blobs:
            self._sink.add_many(BlobType.DATA, blobs)

    def _read_portion(self, portion: Portion, blobs: list[NewBlob]) -> None:
        readings = portion.readings
        try:
            found = kernel.read_files(portion.folder.path, portion.names, self.small)
        except OSError as error:
            readings.failed.update(dict.fromkeys(portion.names, _text(error.errno)))
            return
        contents, origins, old = readings.contents, self._origins, portion.old
        for name, scanned, size, (data, record) in zip(
            portion.names, portion.stats, portion.sizes, found, strict=True
        ):
            if record == scanned and type(data) is bytes and len(data) == size:
                if not data:
                    contents[name] = b""
                    continue
                id_ = BlobId(sha256(data).digest())
                contents[name] = id_
                origin = None if origins is None else origins.file(portion.folder, name, record, size, old.get(name))
                blobs.append((id_, data, 0, origin))
            else:
                self._odd(portion, name, data, record, scanned, blobs)

    def _odd(
        self,
        portion: Portion,
        name: bytes,
        data: bytes | int,
        record: bytes,
        scanned: bytes,
        blobs: list[NewBlob],
    ) -> None:
        """A small file that is not what the scan saw."""
        readings = portion.readings
        if isinstance(data, int):
            readings.failed[name] = _text(data)
            return
        record = self._stable(record)
        if len(data) > self.small:
            self.stream(portion.folder, name, scanned, readings, portion.old.get(name))
            return
        if record != scanned:
            readings.stats[name] = record
        if len(data) != kernel.StatRecord(*kernel.STAT_RECORD.unpack(record)).size:
            readings.sizes[name] = len(data)
            readings.doubtful[name] = "" if self._is_still(portion.folder, name, record) else CHANGED
        if data:
            id_ = blob_id(data)
            blobs.append((id_, data, 0, self._origin(portion.folder, name, record, len(data), portion.old.get(name))))
            readings.contents[name] = id_
        else:
            readings.contents[name] = b""

    def _is_still(self, folder: Folder, name: bytes, record: bytes) -> bool:
        """Is the file as it was at opening? Then its size is one that lies, as in /proc."""
        try:
            return self._stable(pack_stat(os.lstat(folder.entry_path(name)))) == record
        except OSError:
            return False

    def _origin(self, folder: Folder, name: bytes, stat: bytes, size: int, old: OldEntry | None) -> Origin | None:
        return None if self._origins is None else self._origins.file(folder, name, stat, size, old)

    def stream(
        self, folder: Folder, name: bytes, scanned: bytes, readings: Readings, old: OldEntry | None
    ) -> None:
        """Read one file of any size, with at most two of the splitter's largest blobs in memory
        besides those that wait for the sink. ``old``: what had its path."""
        if folder.stream is not None:
            self._read_stream(folder.stream, folder, name, scanned, readings, old)
            return
        try:
            descriptor = _open(folder.entry_path(name))
        except OSError as error:
            readings.failed[name] = _text(error.errno)
            return
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                readings.failed[name] = _NOT_REGULAR
                return
            record = self._stable(pack_stat(before))
            origin = self._origin(folder, name, record, before.st_size, old)
            ids, size = self._split(lambda buffer: os.readv(descriptor, [buffer]), before.st_size, origin)
            after = os.fstat(descriptor)
        except OSError as error:
            readings.failed[name] = _text(error.errno)
            return
        finally:
            os.close(descriptor)
        if record != scanned:
            readings.stats[name] = record
        if size != before.st_size:
            readings.sizes[name] = size
            readings.doubtful[name] = ""
        if _state(before) != _state(after):
            readings.doubtful[name] = CHANGED
        readings.contents[name] = ids

    def _read_stream(
        self, stream: Stream, folder: Folder, name: bytes, record: bytes, readings: Readings, old: OldEntry | None
    ) -> None:
        """Never taken for unchanged: what a pipe will give cannot be told from the outside."""
        origin = self._origin(folder, name, record, 0, old)
        ids, size = self._split(lambda buffer: stream.read(buffer, self._stop), sys.maxsize, origin)
        readings.contents[name], readings.sizes[name], readings.doubtful[name] = ids, size, ""

    def _split(
        self, read: Callable[[memoryview], int], size: int, origin: Origin | None
    ) -> tuple[bytes, int]:
        """The content IDs and the length of what ``read`` puts into buffers; about ``size`` is expected."""
        splitter = self._own_splitter()
        splitter.reset()
        buffer = memoryview(self._own_buffer(splitter.max_size))
        waiting: deque[Future[BlobId]] = deque()
        ids = bytearray()
        start = end = total = offset = 0
        bound = size + max(size, _GROWTH)
        try:
            while total < bound and not self._stop.is_set():
                if len(buffer) - end < _PIECE:
                    buffer[: end - start] = buffer[start:end]
                    start, end = 0, end - start
                count = read(buffer[end : end + _PIECE])
                if not count:
                    break
                for cut in splitter.feed(buffer[end : end + count]):
                    self._submit(bytes(buffer[start : end + cut]), offset, origin, waiting, ids)
                    offset += end + cut - start
                    start = end + cut
                end += count
                total += count
            if end > start:
                self._submit(bytes(buffer[start:end]), offset, origin, waiting, ids)
            while waiting:
                ids += waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
        return bytes(ids), total

    def _submit(
        self, blob: bytes, offset: int, origin: Origin | None, waiting: deque[Future[BlobId]], ids: bytearray
    ) -> None:
        if len(waiting) >= self._in_flight:
            ids += waiting.popleft().result()
        waiting.append(self._hashers.submit(self._add_blob, blob, offset, origin))

    def _add_blob(self, blob: bytes, offset: int, origin: Origin | None) -> BlobId:
        id_ = blob_id(blob)
        self._sink.add_many(BlobType.DATA, [(id_, blob, offset, origin)])
        return id_

    def _own_splitter(self) -> Splitter:
        splitter: Splitter | None = getattr(self._local, "splitter", None)
        if splitter is None:
            splitter = self._local.splitter = self._splitter()
        return splitter

    def _own_buffer(self, max_size: int) -> bytearray:
        # Room for one blob that is not complete, and the piece that completes it. The zeroed pages
        # of a bytearray cost nothing until they are touched.
        buffer: bytearray | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = bytearray(max_size + 2 * _PIECE)
        return buffer


def _open(path: bytes) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        return os.open(path, flags)  # O_NOATIME is for owners only


def _state(st: os.stat_result) -> tuple[int, int, int]:
    return st.st_size, st.st_mtime_ns, st.st_ctime_ns


def _text(code: int | None) -> str:
    if code == errno.ENOENT:
        return _VANISHED
    if code in (errno.ESTALE, errno.ELOOP):
        return _NOT_REGULAR
    return os.strerror(code or errno.EIO)
