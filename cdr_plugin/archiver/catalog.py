"""The catalog: what the last run saw of every folder, and the blobs that it made of it.

One sequential file in walk order (folders after their subfolders), so that two runs are compared
by a streaming merge: no object per file in memory, no row per file on disk.

::

    magic, version          8 bytes
    blocks                  <BQ kind 1, stored length> zstd frame of length-prefixed records (<Q)
    trailer                 <BQ kind 2, stored length> msgpack map, see Facts
    trailer offset          <Q
    SHA-256                 32 bytes, of everything before: torn and foreign files are refused

    record: header, key, names joined by NUL, stat records, subtree IDs, <I per file: content IDs,
    content IDs. The top bit of a file's count says that it must be read again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import msgpack
import zstandard

from cdr_plugin.archiver.stats import DIRECTORY, FILE, kinds_of
from cdr_plugin.errors import FormatError, UnknownVersionError
from cdr_plugin.files import storage_error, sync_folder
from cdr_plugin.kernel import STAT_RECORD
from cdr_plugin.model.blobs import BlobId, BlobType

_MAGIC = b"CDRcat\n"
VERSION = 1

_HEADER = struct.Struct("<32sQIIQIIQ")
"""tree ID, bytes of all files, flags, key length, names length, entries, files, content IDs"""
_BLOCK = struct.Struct("<BQ")
_LENGTH = struct.Struct("<Q")
_RECORDS, _TRAILER = 1, 2
_ID = 32

RECHECK = 1 << 31
"""In a file's count of content IDs: do not trust what is recorded, read the file again."""

_DIRTY = 1
"""Record flag: some entry must be looked at again although its stat record may be the same."""

_BLOCK_BYTES = 1 << 20
# A folder with ten million entries; what claims to be larger is not ours.
_MAX_BLOCK_BYTES = 1 << 31


@dataclass(slots=True)
class Facts:
    """What the tree IDs in a catalog depend on besides its records.

    ``form``: zone, encoding and options; equal or the tree IDs are void. ``users`` and ``groups``:
    the names that trees gave to the numbers (at least all that occur).
    """

    form: str
    users: dict[int, str] = field(default_factory=dict)
    groups: dict[int, str] = field(default_factory=dict)


class OldEntry(NamedTuple):
    """One entry of an old folder; ``ids`` are packed content IDs or the subtree ID."""

    stat: bytes
    ids: bytes
    recheck: bool


class Record:
    """What a run saw of one folder. Parts are found by offset and parsed only when asked for."""

    __slots__ = (
        "_counts_at",
        "_key_at",
        "_names_at",
        "_stats_at",
        "_trees_at",
        "content_count",
        "count",
        "dirty",
        "file_bytes",
        "file_count",
        "raw",
        "tree",
    )

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        header: tuple[bytes, int, int, int, int, int, int, int] = _HEADER.unpack_from(raw)
        tree, self.file_bytes, flags, key, names, self.count, self.file_count, self.content_count = header
        self.tree = BlobId(tree)
        self.dirty = bool(flags & _DIRTY)
        self._key_at = _HEADER.size
        self._names_at = self._key_at + key
        self._stats_at = self._names_at + names
        self._trees_at = self._stats_at + STAT_RECORD.size * self.count
        self._counts_at = len(raw) - 4 * self.file_count - _ID * self.content_count
        if self._counts_at < self._trees_at:
            raise FormatError("catalog: a record is shorter than its parts")

    @property
    def key(self) -> bytes:
        return self.raw[self._key_at : self._names_at]

    @property
    def stats(self) -> bytes:
        return self.raw[self._stats_at : self._trees_at]

    @property
    def subtrees(self) -> bytes:
        return self.raw[self._trees_at : self._counts_at]

    @property
    def content(self) -> bytes:
        return self.raw[len(self.raw) - _ID * self.content_count :]

    @property
    def directory_count(self) -> int:
        return (self._counts_at - self._trees_at) // _ID

    def same_listing(self, names: bytes, stats: bytes) -> bool:
        """Are these the names and stat records, byte for byte, and nothing to be looked at again?"""
        return (
            not self.dirty
            and self._stats_at - self._names_at == len(names)
            and self._trees_at - self._stats_at == len(stats)
            and self.raw.startswith(names, self._names_at)
            and self.raw.startswith(stats, self._stats_at)
        )

    def entries(self) -> dict[bytes, OldEntry]:
        """Every entry by name."""
        if not self.count:
            return {}
        names = self.raw[self._names_at : self._stats_at].split(b"\0")
        counts = struct.unpack_from(f"<{self.file_count}I", self.raw, self._counts_at)
        return dict(zip(names, self._entries(self.stats, counts), strict=True))

    def _entries(self, stats: bytes, counts: tuple[int, ...]) -> Iterator[OldEntry]:
        size, raw = STAT_RECORD.size, self.raw
        tree_at, content_at, file = self._trees_at, len(raw) - _ID * self.content_count, 0
        for i, kind in enumerate(kinds_of(stats)):
            ids, recheck = b"", False
            if kind == FILE:
                count = counts[file]
                file += 1
                recheck = count >= RECHECK
                end = content_at + _ID * (count & ~RECHECK)
                ids = raw[content_at:end]
                content_at = end
            elif kind == DIRECTORY:
                ids = raw[tree_at : tree_at + _ID]
                tree_at += _ID
            yield OldEntry(stats[size * i : size * i + size], ids, recheck)


def make_record(
    *,
    key: bytes,
    names: Sequence[bytes],
    stats: bytes,
    tree: BlobId,
    subtrees: bytes,
    counts: Sequence[int],
    content: bytes,
    file_bytes: int,
    dirty: bool,
) -> bytes:
    """The bytes of a record; ``counts`` and ``content`` follow the regular files in ``stats``."""
    joined = b"\0".join(names)
    flags = _DIRTY if dirty else 0
    sizes = len(key), len(joined), len(names), len(counts), len(content) // _ID
    header = _HEADER.pack(tree, file_bytes, flags, *sizes)
    return b"".join((header, key, joined, stats, subtrees, struct.pack(f"<{len(counts)}I", *counts), content))


def comes_before(a: bytes, b: bytes) -> bool:
    """Does folder ``a`` come before ``b`` in walk order: by components, what is inside first?"""
    if not a or not b:
        return bool(a)  # the root is inside of nothing and comes last
    first, second = a.split(b"/"), b.split(b"/")
    for one, other in zip(first, second, strict=False):
        if one != other:
            return one < other
    return len(first) > len(second)


class CatalogWriter:
    """Writes a catalog. It is one only after ``finish``; leaving the ``with`` block before removes it."""

    def __init__(self, path: Path, facts: Facts) -> None:
        self.facts = facts
        self._path = path
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._offset = 0
        self._hash = sha256()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        with self._errors():
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            self._file = os.fdopen(descriptor, "wb")
        self._write(_MAGIC + bytes((VERSION,)))
        return self

    def add(self, record: bytes) -> None:
        """Append one folder; walk order is the caller's promise."""
        self._pending += (_LENGTH.pack(len(record)), record)
        self._pending_bytes += len(record)
        if self._pending_bytes >= _BLOCK_BYTES:
            self._flush()

    def finish(self) -> None:
        """Durable when this returns."""
        self._flush()
        at = self._offset
        facts = {"form": self.facts.form, "users": self.facts.users, "groups": self.facts.groups}
        self._block(_TRAILER, msgpack.packb(facts))
        self._write(_LENGTH.pack(at))
        self._write(self._hash.digest())
        assert self._file is not None
        with self._errors():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
            sync_folder(self._path.parent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError):  # a full disk, of which the block knows already: closing writes the rest
                self._file.close()
            self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._pending:
            self._block(_RECORDS, b"".join(self._pending))
            self._pending, self._pending_bytes = [], 0

    def _block(self, kind: int, data: bytes) -> None:
        stored = self._compressor.compress(data)
        self._write(_BLOCK.pack(kind, len(stored)) + stored)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        with self._errors():
            self._file.write(data)
        self._hash.update(data)
        self._offset += len(data)

    def _errors(self) -> _WriteErrors:
        return _WriteErrors(self._path)


class _WriteErrors:
    """Turns OSError into the classes for failed writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            raise storage_error(self._path, error) from error


class CatalogReader:
    """Reads a catalog forwards. Opening verifies the whole file: FormatError when it is torn,
    foreign or of a version that is not known. Belongs to one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decompressor = zstandard.ZstdDecompressor()
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise FormatError(f"{path}: catalog cannot be read: {error.strerror}") from None
        try:
            self._end = self._verify()
            self.facts = self._read_facts()
        except BaseException:
            self._file.close()
            raise
        self._records = (record for _, records in self.blocks() for record in records)
        self._next = next(self._records, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()

    def find(self, key: bytes) -> Record | None:
        """The record of folder ``key``, if any; keys must be asked for in walk order."""
        while (record := self._next) is not None:
            found = record.key
            if found != key and not comes_before(found, key):
                return None
            self._next = next(self._records, None)
            if found == key:
                return record
        return None

    def __iter__(self) -> Iterator[Record]:
        """The records not yet passed."""
        while (record := self._next) is not None:
            self._next = next(self._records, None)
            yield record

    def blocks(self) -> Iterator[tuple[int, list[Record]]]:
        """All records in their order, block by block, with the offset by which ``block`` finds one again."""
        at = len(_MAGIC) + 1
        while at < self._end:
            records = self.block(at)
            end = self._file.tell()
            yield at, records
            at = end

    def block(self, at: int) -> list[Record]:
        """The records of the block at an offset that ``blocks`` gave."""
        self._file.seek(at)
        _, data = self._read_block()
        records, at = [], 0
        while at < len(data):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            records.append(Record(data[at : at + length]))
            at += length
        return records

    def _verify(self) -> int:
        """Where the trailer begins."""
        size = os.fstat(self._file.fileno()).st_size
        head = self._read(len(_MAGIC) + 1)
        if not head.startswith(_MAGIC) or size < len(_MAGIC) + 1 + _BLOCK.size + _LENGTH.size + _ID:
            raise FormatError(f"{self._path}: not a complete catalog")
        if head[-1] != VERSION:
            raise UnknownVersionError(f"{self._path}: catalog of unknown version {head[-1]}")
        digest, left, tail = sha256(head), size - len(head) - _ID, b""
        while left and (data := self._read(min(left, _BLOCK_BYTES))):
            digest.update(data)
            left -= len(data)
            tail = (tail + data)[-_LENGTH.size :]
        if left or self._read(_ID + 1) != digest.digest():
            raise FormatError(f"{self._path}: the catalog's checksum does not fit; it is torn or damaged")
        return int(_LENGTH.unpack(tail)[0])

    def _read_facts(self) -> Facts:
        self._file.seek(self._end)
        try:
            kind, data = self._read_block()
            facts = msgpack.unpackb(data, strict_map_key=False)
            if kind == _TRAILER:
                return Facts(facts["form"], facts["users"], facts["groups"])
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{self._path}: catalog trailer: {error}") from None
        raise FormatError(f"{self._path}: catalog without a trailer")

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            raise FormatError(f"{self._path}: catalog cannot be read: {error.strerror}") from None

    def _read_block(self) -> tuple[int, bytes]:
        header = self._read(_BLOCK.size)
        if len(header) != _BLOCK.size:
            raise FormatError(f"{self._path}: catalog ends early")
        kind, stored = _BLOCK.unpack(header)
        if stored > _MAX_BLOCK_BYTES:
            raise FormatError(f"{self._path}: a catalog block of {stored} bytes")
        data = self._read(stored)
        try:
            if zstandard.get_frame_parameters(data).content_size > _MAX_BLOCK_BYTES:
                raise FormatError(f"{self._path}: a catalog block inflates beyond its limit")
            return kind, self._decompressor.decompress(data)
        except zstandard.ZstdError as error:
            raise FormatError(f"{self._path}: a catalog block does not decompress: {error}") from None


def catalog_blobs(path: Path) -> Iterator[tuple[BlobType, BlobId]]:
    """Every blob that the catalog names, with repetitions: a folder's contents, then its tree."""
    with CatalogReader(path) as catalog:
        for record in catalog:
            content = record.content
            for at in range(0, len(content), _ID):
                yield BlobType.DATA, BlobId(content[at : at + _ID])
            yield BlobType.TREE, record.tree
