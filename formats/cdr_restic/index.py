"""Where blobs are: the index in memory."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from cdr_plugin.kernel import BLOB_RECORD, REPEAT_RECORD, RUN_RECORD, TOTALS_RECORD, BlobTable
from cdr_plugin.model.blobs import BlobType, Buffer
from cdr_restic.crypto import OVERHEAD
from cdr_restic.index_file import (
    FULL_INDEX_BLOBS,
    IndexedPack,
    PackedIndex,
    encode_index,
    pack_index,
    parse_index,
    read_index,
)
from cdr_restic.pack_names import PackNames
from cdr_restic.packs import COMPRESSED_ENTRY_BYTES, PLAIN_ENTRY_BYTES, PackEntry

__all__ = [
    "FULL_INDEX_BLOBS",
    "IndexedPack",
    "Located",
    "Location",
    "MemoryIndex",
    "PackRun",
    "PackRuns",
    "PackTotals",
    "Totals",
    "encode_index",
    "parse_index",
]

ID_BYTES = 32
_TYPES = tuple(BlobType)


class Location(NamedTuple):
    """Where a blob is. ``pack`` is a number of the index that says so."""

    pack: int
    offset: int
    length: int
    plain: int

    @property
    def plain_length(self) -> int:
        """Bytes of the plaintext."""
        return self.plain or self.length - OVERHEAD


class Located(NamedTuple):
    """Places of many blobs: ``records`` (``BLOB_RECORD``) ascending by pack and offset, each blob once;
    ``missing`` are the IDs that the index does not have, as often as they were asked for.

    ``places`` takes 49 bytes per blob as long as nobody keeps what it yields.
    """

    records: bytes
    missing: list[bytes]

    def places(self) -> Iterator[tuple[bytes, Location]]:
        return (
            (id_, Location(pack, offset, length, plain))
            for _, id_, pack, offset, length, plain in BLOB_RECORD.iter_unpack(self.records)
        )


class PackRun(NamedTuple):
    """A pack as one index file lists it: ``blobs`` rows from row ``first`` on."""

    number: int
    name: str
    first: int
    blobs: int


class PackRuns(Sequence[PackRun]):
    """Packs in the order in which index files listed them, made as they are looked at."""

    def __init__(self, records: bytes, names: PackNames) -> None:
        self._records = records
        self._names = names

    def __len__(self) -> int:
        return len(self._records) // RUN_RECORD.size

    @overload
    def __getitem__(self, at: int) -> PackRun: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[PackRun]: ...
    def __getitem__(self, at: int | slice) -> PackRun | Sequence[PackRun]:
        if isinstance(at, slice):
            return [self[position] for position in range(*at.indices(len(self)))]
        number, first, blobs = RUN_RECORD.unpack_from(self._records, range(len(self))[at] * RUN_RECORD.size)
        return PackRun(number, self._names.get(number), first, blobs)


class PackTotals(NamedTuple):
    """Rows of one pack, and the bytes that they take in it: sealed blobs and their header entries.

    A pack file is ``marked_bytes + other_bytes + EMPTY_PACK_BYTES`` long if the index is right and lists it once.
    """

    marked: int
    marked_bytes: int
    other: int
    other_bytes: int
    trees: int
    uncompressed: int

    @property
    def blobs(self) -> int:
        return self.marked + self.other

    @property
    def is_mixed(self) -> bool:
        """Whether data and trees share the pack."""
        return 0 < self.trees < self.blobs


class Totals(Sequence[PackTotals]):
    """By pack number, made as they are looked at: 48 bytes per pack."""

    def __init__(self, records: bytes) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records) // TOTALS_RECORD.size

    @overload
    def __getitem__(self, at: int) -> PackTotals: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[PackTotals]: ...
    def __getitem__(self, at: int | slice) -> PackTotals | Sequence[PackTotals]:
        if isinstance(at, slice):
            return [self[position] for position in range(*at.indices(len(self)))]
        offset = range(len(self))[at] * TOTALS_RECORD.size
        return PackTotals(*TOTALS_RECORD.unpack_from(self._records, offset))


class MemoryIndex:
    """All blobs of a repository, those being written included, as rows of a table.

    Takes 53 to 61 bytes per blob, also while it grows, and about 95 per pack. A blob that is known already is not
    added again and stays where it was; with ``duplicates`` every copy is kept as a row of its own, and the first one
    is what is found. Any number of threads may ask while one adds.
    """

    def __init__(self, duplicates: bool = False) -> None:
        self._table = BlobTable(duplicates)
        self._names = PackNames()
        # Of each index file that was loaded.
        self._loads: list[range] = []
        self._by_number: tuple[PackRuns, array[int]] | None = None

    def __len__(self) -> int:
        """Rows."""
        return len(self._table)

    @property
    def blobs(self) -> int:
        """Different blobs, by type and ID."""
        return self._table.keys

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the blobs take."""
        return self._table.nbytes

    # --- single blobs ---

    def has(self, type_: BlobType, id_: bytes) -> bool:
        return self.row(type_, id_) >= 0

    def find(self, type_: BlobType, id_: bytes) -> Location | None:
        row = self.row(type_, id_)
        return None if row < 0 else Location(*self._table.get(row)[2:])

    def row(self, type_: BlobType, id_: bytes) -> int:
        """The first row of a blob, or -1, as for everything that is no ID of 32 bytes."""
        return self._table.find(type_, id_) if len(id_) == ID_BYTES else -1

    def add(self, pack: int, entry: PackEntry) -> None:
        """A blob that is known already stays where it was."""
        type_, id_, offset, length, plain = entry
        self._table.add(type_, id_, pack, offset, length, plain)

    # --- many blobs ---

    def locate(self, type_: BlobType, ids: Buffer) -> Located:
        """Where these blobs (IDs end to end) are; bounded by 49 bytes for each that is found."""
        return Located(*self._table.locate(type_, ids))

    def find_rows(self, type_: BlobType, ids: Buffer) -> memoryview:
        """The first row of each of these blobs (IDs end to end), -1 for unknown ones; items are ints."""
        return memoryview(self._table.find_many(type_, ids)).cast("i")

    def new_flags(self) -> bytearray:
        """A zero byte for each row; of no use any more once a row was added."""
        return bytearray(len(self._table))

    def mark(self, type_: BlobType, ids: Buffer, flags: bytearray, value: int = 1) -> list[bytes]:
        """Set bits in the flags of the first rows of these blobs (IDs end to end); the unknown ones."""
        return self._table.mark(type_, ids, flags, value)

    def totals(self, flags: Buffer, mask: int = 255) -> Totals:
        """By pack number; a row is ``marked`` if its flag and ``mask`` share a bit."""
        packs = len(self._names)
        return Totals(self._table.totals(flags, packs, mask, PLAIN_ENTRY_BYTES, COMPRESSED_ENTRY_BYTES))

    def rows(self, first: int, count: int) -> Iterator[tuple[int, PackEntry]]:
        """The pack number and the entry of each of these rows; a packed copy of 49 bytes each is made at once."""
        records = self._table.records(first, first + count)
        return (
            (pack, PackEntry(_TYPES[type_], id_, offset, length, plain))
            for type_, id_, pack, offset, length, plain in BLOB_RECORD.iter_unpack(records)
        )

    def repeats(self) -> Iterator[tuple[int, int]]:
        """Each row that is not the first of its blob, ascending, and that first row."""
        if self._table.keys == len(self._table):
            return iter(())
        return REPEAT_RECORD.iter_unpack(self._table.repeats(0, len(self._table)))

    # --- packs ---

    @property
    def pack_count(self) -> int:
        """Pack numbers are below this."""
        return len(self._names)

    def new_pack(self) -> int:
        """A number for a pack that has no name yet."""
        return self._names.new()

    def name_pack(self, number: int, name: str) -> None:
        self._names.name(number, name)

    def pack_name(self, number: int) -> str:
        """Hex; empty as long as the pack is not stored."""
        return self._names.get(number)

    def pack_number(self, name: str) -> int | None:
        return self._names.find(name)

    def has_pack(self, name: str) -> bool:
        return self._names.find(name) is not None

    def packs(self) -> PackRuns:
        """The packs that index files list, in that order, each with its contiguous rows.

        Without ``duplicates`` only rows that were new; packs without rows are left out, but have a number. A pack
        that several files list is there several times, under one number.
        """
        return PackRuns(b"".join(self._table.runs(rows.start, rows.stop) for rows in self._loads), self._names)

    def entries(self, number: int) -> list[PackEntry]:
        """The blobs of a pack as index files list them, in that order; those written in this session are not."""
        runs, order = self._runs_by_number()
        found = []
        for at in range(bisect_left(order, number, key=lambda at: runs[at].number), len(order)):
            run = runs[order[at]]
            if run.number != number:
                break
            found += [entry for _, entry in self.rows(run.first, run.blobs)]
        return found

    def _runs_by_number(self) -> tuple[PackRuns, array[int]]:
        if self._by_number is None:
            runs = self.packs()
            self._by_number = runs, array("I", sorted(range(len(runs)), key=lambda at: runs[at].number))
        return self._by_number

    # --- index files ---

    def load(self, data: Buffer, version: int) -> range:
        """Take in an index file of a repository of that version; the rows that it added.

        Raises FormatError, and then nothing was added.
        """
        return self._take(read_index(data, version))

    def add_pack(self, pack: IndexedPack) -> None:
        """Take in a pack as if an index file listed it."""
        self._take(pack_index([pack]))

    def _take(self, packed: PackedIndex) -> range:
        first = len(self._table)
        self._table.add_rows(packed.blobs, self._names.number_all(packed.packs))
        rows = range(first, len(self._table))
        self._loads.append(rows)
        self._by_number = None
        return rows
