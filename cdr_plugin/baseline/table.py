"""One table of the baseline: an immutable file of entries, found by blob.

Written once, in any order of blobs, with bounded memory. It is a cache: nothing is fsynced, a torn or foreign
file is refused as a whole, and each entry is checked when it is read. All numbers are little-endian, but for
the index, which is compared as bytes.

::

    head        magic and version (8), <I length, msgpack list of labels
    entries     _ENTRY, then the bytes
    index       _PLACE for each entry, ascending
    tail        _TAIL
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple, Self
from zlib import crc32

import msgpack

from cdr_plugin.baseline.sorting import RecordSorter
from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobId, BlobType, Buffer

_MAGIC = b"CDRbase\x01"
_LENGTH = Struct("<I")
_MAX_LABELS_BYTES = 64 * 1024
KEY_BYTES = 12
"""Of a blob's ID: among 10 million blobs two are alike once in 10^15 baselines, and a mistake costs a resend."""
_ENTRY = Struct(f"<{KEY_BYTES}sBBIII")
"""Key, kind of what is kept and type of the blob, number of the label, bytes of the blob, bytes kept, CRC-32
of the header without it and of the bytes."""
_PREFIX_BYTES = 6
_PLACE = Struct(f">{_PREFIX_BYTES}s6s")
"""Beginning of the key, offset of the entry: with the header 38 bytes for each entry."""
_TAIL = Struct("<QQI8s")
"""Offset of the index, entries, CRC-32 of head and index, magic."""
_READ_BYTES = 16 * 1024
"""A signature of 1 % of a blob of 1 MiB comes with one read."""
_PIECE = 1 << 20


class Kept(IntEnum):
    """What an entry keeps of its blob."""

    MEMORY = 0
    """What ``Encoder.remember`` of the labelled method gave."""
    CONTENT = 1
    """A payload of the labelled method that needs no bases."""


class Entry(NamedTuple):
    """``key``: beginning of the ID; ``length`` of the blob in plain bytes."""

    key: bytes
    type: BlobType
    kept: Kept
    label: str
    length: int
    data: bytes


class TableWriter:
    """Writes a table; it is one after ``finish``. One thread at a time. Raises OSError."""

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        """``labels``: all that entries may have, at most 255."""
        self.entries = 0
        self._numbers = {label: number for number, label in enumerate(labels)}
        packed = msgpack.packb(list(labels))
        head = _MAGIC + _LENGTH.pack(len(packed)) + packed
        self._crc = crc32(head)
        self._offset = len(head)
        self._index = RecordSorter(_PLACE.size, path.parent)
        self._file = open(path, "xb", buffering=256 * 1024, opener=_private)  # noqa: SIM115
        self._file.write(head)

    @property
    def size(self) -> int:
        """Bytes of the finished table."""
        return self._offset + self.entries * _PLACE.size + _TAIL.size

    def add(self, entry: Entry) -> None:
        kind = entry.kept << 1 | entry.type
        fields = entry.key, kind, self._numbers[entry.label], entry.length, len(entry.data)
        self._file.write(_ENTRY.pack(*fields, _checksum(fields, entry.data)))
        self._file.write(entry.data)
        self._place(entry.key, len(entry.data))

    def _place(self, key: bytes, length: int) -> None:
        self._index.add(_PLACE.pack(key[:_PREFIX_BYTES], self._offset.to_bytes(6, "big")))
        self._offset += _ENTRY.size + length
        self.entries += 1

    def finish(self) -> None:
        """The file is whole and closed, but not durable."""
        with self._index, self._file as file:
            for piece in self._index.sorted():
                self._crc = crc32(piece, self._crc)
                file.write(piece)
            file.write(_TAIL.pack(self._offset, self.entries, self._crc, _MAGIC))

    def abandon(self) -> None:
        """Close without finishing; the file is left."""
        self._index.close()
        with suppress(OSError):  # of a full disk, which is why it is abandoned
            self._file.close()

    @classmethod
    def salvage(cls, path: Path) -> Self:
        """Go on with what a killed process has written; what is torn at its end goes. FormatError."""
        with path.open("rb") as file:
            labels = _read_head(file, path)
            self = cls.__new__(cls)
            self.entries = 0
            self._numbers = {label: number for number, label in enumerate(labels)}
            self._offset = file.tell()
            file.seek(0)
            self._crc = crc32(file.read(self._offset))
            self._index = RecordSorter(_PLACE.size, path.parent)
            for entry in _read_entries(file, labels, os.fstat(file.fileno()).st_size):
                self._place(entry.key, len(entry.data))
        self._file = path.open("r+b", buffering=256 * 1024)
        self._file.truncate(self._offset)
        self._file.seek(self._offset)
        return self


class Table:
    """A finished table. Any number of threads may ask. FormatError when it is torn or foreign."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise FormatError(f"{path}: {error.strerror}") from None
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self.labels = _read_head(self._file, path)
            self._index_at, self.entries = self._verify()
            self._map = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._map.close()
        self._file.close()

    def find(self, type_: BlobType, id_: BlobId, *, without_content: bool = False) -> Iterator[Entry]:
        """What is kept of a blob; entries that are damaged are left out. ``without_content``: contents are not
        read, nor is it known whether they are damaged; their entries have no data."""
        key, prefix = id_[:KEY_BYTES], id_[:_PREFIX_BYTES]
        at = bisect_left(range(self.entries), prefix, key=self._prefix)
        while at < self.entries and self._prefix(at) == prefix:
            place = self._index_at + at * _PLACE.size + _PREFIX_BYTES
            entry = self._read(int.from_bytes(self._map[place : place + 6], "big"), without_content)
            if entry is not None and (entry.key, entry.type) == (key, type_):
                yield entry
            at += 1

    def __iter__(self) -> Iterator[Entry]:
        """All entries, in the order in which they were added; ends at the first that is damaged."""
        with self.path.open("rb") as file:
            _read_head(file, self.path)
            yield from _read_entries(file, self.labels, self._index_at)

    def _prefix(self, position: int) -> bytes:
        at = self._index_at + position * _PLACE.size
        return self._map[at : at + _PREFIX_BYTES]

    def _read(self, at: int, without_content: bool) -> Entry | None:
        """None where it is damaged. Not through the map, whose pages would count as our memory."""
        data = os.pread(self._file.fileno(), _READ_BYTES, at)
        if len(data) < _ENTRY.size:
            return None
        key, kind, label, length, size, _ = _ENTRY.unpack_from(data)
        end = _ENTRY.size + size
        if at + end > self._index_at:
            return None
        if without_content and kind >> 1 == Kept.CONTENT and label < len(self.labels):
            return Entry(key, BlobType(kind & 1), Kept.CONTENT, self.labels[label], length, b"")
        if end > len(data):
            data += os.pread(self._file.fileno(), end - len(data), at + len(data))
        return _entry(data[: _ENTRY.size], data[_ENTRY.size : end], self.labels)

    def _verify(self) -> tuple[int, int]:
        """Where the index begins, and its entries."""
        begin = self._file.tell()
        self._file.seek(max(self.size - _TAIL.size, 0))
        tail = self._file.read()
        if len(tail) != _TAIL.size:
            raise FormatError(f"{self.path}: not a baseline table")
        at, entries, crc, magic = _TAIL.unpack(tail)
        if magic != _MAGIC or at < begin or at + entries * _PLACE.size + _TAIL.size != self.size:
            raise FormatError(f"{self.path}: the baseline table is torn")
        self._file.seek(0)
        found = crc32(self._file.read(begin))
        self._file.seek(at)
        left = entries * _PLACE.size
        while left and (piece := self._file.read(min(left, _PIECE))):
            found = crc32(piece, found)
            left -= len(piece)
        if left or found != crc:
            raise FormatError(f"{self.path}: the index of the baseline table is damaged")
        return at, entries


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _checksum(fields: tuple[bytes, int, int, int, int], data: Buffer) -> int:
    return crc32(data, crc32(_ENTRY.pack(*fields, 0)))


def _read_head(file: BinaryIO, path: Path) -> list[str]:
    """The labels; the file stands behind them."""
    start = file.read(len(_MAGIC) + _LENGTH.size)
    if len(start) == len(_MAGIC) + _LENGTH.size and start.startswith(_MAGIC):
        (length,) = _LENGTH.unpack_from(start, len(_MAGIC))
        packed = file.read(min(length, _MAX_LABELS_BYTES))
        with suppress(ValueError, msgpack.UnpackException):
            labels = msgpack.unpackb(packed) if len(packed) == length else None
            if isinstance(labels, list) and all(isinstance(label, str) for label in labels):
                return labels
    raise FormatError(f"{path}: not a baseline table of this version")


def _read_entries(file: BinaryIO, labels: Sequence[str], end: int) -> Iterator[Entry]:
    """Entries from where the file stands to ``end``, as long as they are whole."""
    at = file.tell()
    while at + _ENTRY.size <= end:
        header = file.read(_ENTRY.size)
        length = _ENTRY.unpack(header)[4] if len(header) == _ENTRY.size else end
        if at + _ENTRY.size + length > end:
            return
        entry = _entry(header, file.read(length), labels)
        if entry is None:
            return
        yield entry
        at += _ENTRY.size + length


def _entry(header: bytes, data: bytes, labels: Sequence[str]) -> Entry | None:
    """None where header and bytes do not fit together."""
    key, kind, label, length, size, crc = _ENTRY.unpack(header)
    fields = key, kind, label, length, size
    if kind > 3 or label >= len(labels) or size != len(data) or _checksum(fields, data) != crc:
        return None
    return Entry(key, BlobType(kind & 1), Kept(kind >> 1), labels[label], length, data)
