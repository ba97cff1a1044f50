"""Finds the older content of files and folders.

Most files and folders are found where they were. One that was renamed or moved is found by its inode, or
through that of its folder, in an index of the old catalog that is made when first it is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from threading import Lock

from cdr_plugin.archiver.catalog import CatalogReader, OldEntry, Record
from cdr_plugin.archiver.origin import Origin
from cdr_plugin.archiver.stats import DEVICE_AND_INODE, DIRECTORY, FILE, SIZE, find_inode, kinds_of
from cdr_plugin.archiver.walk import Folder
from cdr_plugin.errors import FormatError

SMALLEST_MOVED = 64 * 1024
"""Bytes. Who lost less by a move than that is sent whole, which spares the index of the old catalog: 0.5 s
and 16 bytes of memory for each of a million files."""

_SMALLEST_LEFT = SMALLEST_MOVED // 2
"""Smaller old files are of little use to a new one of ``SMALLEST_MOVED``, and are not in the index."""

_ENTRY = Struct("<I12xQQ8xq24x")
"""Mode, device, inode, size of a stat record."""
_PLACE = Struct("<QQ")
"""Hash of what is looked for, offset of the block of records that has it."""
_TYPE_MASK, _REGULAR, _FOLDER = 0o170000, 0o100000, 0o040000
_U64 = 2**64 - 1


class Origins:
    """Makes the origins of one run over an old catalog."""

    def __init__(self, old_catalog: Path) -> None:
        self._moved = _Moved(old_catalog)

    def close(self) -> None:
        """Nothing is asked of its origins any more."""
        self._moved.close()

    def file(self, folder: Folder, name: bytes, stat: bytes, size: int, old: OldEntry | None) -> Origin | None:
        """Of a regular file with this stat record and ``size``; ``old``: what had its path."""
        if old is not None and old.ids and kinds_of(old.stat)[0] == FILE:
            return Origin(old.ids)
        if size < SMALLEST_MOVED:
            return None
        return Origin(find=lambda: self._moved.content(folder, name, stat))

    def folder(self, folder: Folder, size: int, old: Record | None) -> Origin | None:
        """Of a folder whose tree blob has ``size`` bytes; ``old``: what had its path."""
        if old is not None:
            return Origin(old.tree)
        if size < SMALLEST_MOVED:
            return None
        return Origin(find=lambda: self._moved.tree(folder))


class _Index:
    """Offsets by 64-bit hash: 16 bytes each, in unsorted buckets, which a search scans in microseconds."""

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(256)]

    def add(self, key: int, at: int) -> None:
        self._buckets[key & 0xFF] += _PLACE.pack(key, at)

    def find(self, key: int) -> Iterator[int]:
        """What was added for the key."""
        bucket, wanted = self._buckets[key & 0xFF], key.to_bytes(8, "little")
        position = bucket.find(wanted)
        while position >= 0:
            if position % _PLACE.size == 0:
                yield _PLACE.unpack_from(bucket, position)[1]
            position = bucket.find(wanted, position + 1)


class _Moved:
    """Finds what was renamed or moved since the old catalog was made."""

    def __init__(self, catalog: Path) -> None:
        self._path = catalog
        self._lock = Lock()
        self._reader: CatalogReader | None = None
        self._inodes = _Index()
        self._folders = _Index()
        self._block: tuple[int, list[Record]] = (-1, [])
        self._entries: tuple[Record | None, dict[bytes, OldEntry], list[bytes]] = (None, {}, [])
        self._parent: tuple[bytes, Record | None] = (b"", None)

    def content(self, folder: Folder, name: bytes, stat: bytes) -> bytes:
        """Packed IDs of the file, by its inode, or by its name in the folder that has this folder's inode."""
        with self._lock:
            try:
                self._open()
                found = self._by_inode(stat)
                ids = found[2].ids if found is not None and kinds_of(found[2].stat)[0] == FILE else b""
                return ids or self._in_folder(folder, name)
            except FormatError:
                return b""  # it was whole when the run began; without it more travels, that is all

    def tree(self, folder: Folder) -> bytes:
        """ID of the tree that the folder had, by its inode."""
        with self._lock:
            try:
                self._open()
                old = self._old_folder(folder)
                return b"" if old is None else old.tree
            except FormatError:
                return b""

    def _open(self) -> None:
        if self._reader is not None:
            return
        self._reader = CatalogReader(self._path)
        for at, records in self._reader.blocks():
            for record in records:
                self._enter(record, at)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _enter(self, record: Record, at: int) -> None:
        self._folders.add(_hash_key(record.key), at)
        for mode, device, inode, size in _ENTRY.iter_unpack(record.stats):
            type_ = mode & _TYPE_MASK
            if type_ == _FOLDER or (type_ == _REGULAR and size >= _SMALLEST_LEFT):
                self._inodes.add(_hash_inode(device, inode), at)

    def _records(self, at: int) -> list[Record]:
        assert self._reader is not None
        if self._block[0] != at:
            self._block = (at, self._reader.block(at))
        return self._block[1]

    def _by_inode(self, stat: bytes) -> tuple[Record, bytes, OldEntry] | None:
        """Folder, name and entry of the inode that a stat record names."""
        _, device, inode, _ = _ENTRY.unpack(stat)
        wanted = DEVICE_AND_INODE.pack(device, inode)
        for at in self._inodes.find(_hash_inode(device, inode)):
            for record in self._records(at):
                for position in find_inode(record.stats, wanted):
                    _, entries, names = self._listed(record)
                    return record, names[position], entries[names[position]]
        return None

    def _listed(self, record: Record) -> tuple[Record | None, dict[bytes, OldEntry], list[bytes]]:
        """The entries of a record, by name and by position; kept, because what moved together is asked for together."""
        if self._entries[0] is not record:
            entries = record.entries()
            self._entries = (record, entries, list(entries))
        return self._entries

    def _in_folder(self, folder: Folder, name: bytes) -> bytes:
        old = self._old_folder(folder)
        entry = None if old is None else self._listed(old)[1].get(name)
        return b"" if entry is None or kinds_of(entry.stat)[0] != FILE else entry.ids

    def _old_folder(self, folder: Folder) -> Record | None:
        if self._parent[0] != folder.key:
            self._parent = (folder.key, self._find_folder(folder))
        return self._parent[1]

    def _find_folder(self, folder: Folder) -> Record | None:
        """What had the folder's inode, which its parent knows."""
        stat = b"" if folder.parent is None else _stat_of(folder.parent, folder.name)
        found = self._by_inode(stat) if len(stat) == SIZE else None
        if found is None or kinds_of(found[2].stat)[0] != DIRECTORY:
            return None
        above, name, _ = found
        key = above.key + b"/" + name if above.key else name
        for at in self._folders.find(_hash_key(key)):
            for record in self._records(at):
                if record.key == key:
                    return record
        return None


def _stat_of(folder: Folder, name: bytes) -> bytes:
    """The stat record of an entry; empty or short when entries are being dropped just now."""
    at = bisect_left(folder.names, name)
    return folder.stats[SIZE * at : SIZE * at + SIZE] if folder.names[at : at + 1] == [name] else b""


def _hash_inode(device: int, inode: int) -> int:
    return (inode ^ device * 0x9E3779B97F4A7C15) & _U64


def _hash_key(key: bytes) -> int:
    return hash(key) & _U64
