"""``BlobTable`` in plain Python: the oracle of the one in C, and what runs where there is none."""

import threading
from array import array
from collections.abc import Iterator
from operator import index
from typing import TypeAlias

from .arguments import check
from .blob_records import BLOB_RECORD, REPEAT_RECORD, RUN_RECORD, TOTALS_RECORD, BlobRow

ID_BYTES = 32
MAX_ROWS = 2**31 - 1
_U31 = 2**31 - 1
_U32 = 2**32 - 1

_Key: TypeAlias = tuple[int, bytes]
_Buffer: TypeAlias = bytes | bytearray | memoryview


class BlobTable:
    """Where blobs are: rows in the order in which they were added, found by (type, ID).

    A key that is present already is not added again; with ``duplicates`` it is, as a further row, and the
    first row of the key stays the one that is found. Rows never move or go. In C a row takes 48 bytes
    and its share of the hash table 5 to 12 more, also while the table grows: at most 64 together.

    Any number of threads may use one table: a call is atomic, except that the bulk calls
    (``add_rows``, ``find_many``, ``mark``, ``locate``, ``totals``) let other threads in now and then; they
    see the rows that were there when they began. Raises ``TypeError`` and ``ValueError`` for
    arguments that cannot be (and then changes nothing), ``MemoryError`` and ``OverflowError`` beyond 2**31 - 1 rows.
    """

    def __init__(self, duplicates: bool = False) -> None:
        self._duplicates = bool(duplicates)
        self._rows: list[BlobRow] = []
        self._first: dict[_Key, int] = {}
        self._adding = threading.Lock()

    def __len__(self) -> int:
        """Rows."""
        return len(self._rows)

    @property
    def keys(self) -> int:
        """Different keys among the rows."""
        return len(self._first)

    @property
    def duplicates(self) -> bool:
        """Whether further rows of a key are kept."""
        return self._duplicates

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the table takes, approximately here."""
        return 400 * len(self._rows)

    def add(self, type_: int, id_: _Buffer, pack: int, offset: int, length: int, plain: int, /) -> bool:
        """Add a row; False if the key was there already, whether or not the row was added."""
        row = _row(type_, id_, pack, offset, length, plain)
        with self._adding:
            return self._add(row)

    def add_rows(self, records: _Buffer, numbers: _Buffer | None = None, /) -> int:
        """Add records (``BLOB_RECORD``) end to end; the number of rows added.

        With ``numbers``, unsigned 32-bit integers of this machine, the pack of a record is a position in there.
        """
        octets = _octets("records", records, BLOB_RECORD.size)
        packs = None if numbers is None else memoryview(_octets("numbers", numbers, 4)).cast("I")
        rows = [_resolve(BlobRow(*fields), packs) for fields in BLOB_RECORD.iter_unpack(octets)]
        with self._adding:
            before = len(self._rows)
            for row in rows:
                self._add(row)
            return len(self._rows) - before

    def _add(self, row: BlobRow) -> bool:
        number = len(self._rows)
        new = (row.type, row.id) not in self._first
        if new or self._duplicates:
            self._rows.append(row)
        if new:  # only now may others find the row
            self._first[row.type, row.id] = number
        return new

    def find(self, type_: int, id_: _Buffer, /) -> int:
        """The first row of a key, or -1."""
        return self._first.get(_key(type_, id_), -1)

    def get(self, row: int, /) -> tuple[int, bytes, int, int, int, int]:
        """A row's fields, as ``BlobRow`` names them; IndexError."""
        row = index(row)
        if not 0 <= row < len(self._rows):
            raise IndexError(f"row must be below {len(self._rows)}, not {row}")
        return self._rows[row]

    def find_many(self, type_: int, ids: _Buffer, /) -> bytes:
        """For each of the IDs (end to end) its first row or -1, as signed 32-bit integers of this machine."""
        return array("i", (self._first.get(key, -1) for key in _keys(type_, ids))).tobytes()

    def mark(self, type_: int, ids: _Buffer, flags: bytearray | memoryview, value: int = 1, /) -> list[bytes]:
        """Set bits in the flags, one byte per row, of the first rows of these IDs; the IDs without one."""
        check("value", value, 0, 255)
        view = self._flags(flags, writable=True)
        missing = []
        for key in _keys(type_, ids):
            row = self._first.get(key, -1)
            if row < 0:
                missing.append(key[1])
            else:
                view[row] |= value
        return missing

    def locate(self, type_: int, ids: _Buffer, /) -> tuple[bytes, list[bytes]]:
        """The records of these IDs, ascending by pack and offset, each once; the IDs that are missing."""
        found = set()
        missing = []
        for key in _keys(type_, ids):
            row = self._first.get(key, -1)
            if row < 0:
                missing.append(key[1])
            else:
                found.add(row)
        ordered = sorted(found, key=lambda row: (self._rows[row].pack, self._rows[row].offset, row))
        return b"".join(BLOB_RECORD.pack(*self._rows[row]) for row in ordered), missing

    def totals(
        self, flags: _Buffer, packs: int, mask: int = 255, plain_extra: int = 0, compressed_extra: int = 0, /
    ) -> bytes:
        """``TOTALS_RECORD`` of each pack number below ``packs``; ValueError if a row has a higher one.

        A row counts as flagged if its flag and ``mask`` share a bit. Its bytes are its length and one of the
        extras: of ``compressed_extra`` if its ``plain`` is not 0.
        """
        check("packs", packs, 0, _U31 + 1)
        check("mask", mask, 0, 255)
        check("plain_extra", plain_extra, 0, _U32)
        check("compressed_extra", compressed_extra, 0, _U32)
        view = self._flags(flags, writable=False)
        if self._rows and max(row.pack for row in self._rows) >= packs:
            raise ValueError(f"a row has a pack number that is not below {packs}")
        sums = [[0] * 6 for _ in range(packs)]
        for flag, row in zip(view, self._rows, strict=True):
            total = sums[row.pack]
            at = 0 if flag & mask else 2
            total[at] += 1
            total[at + 1] += row.length + (compressed_extra if row.plain else plain_extra)
            total[4] += row.type
            total[5] += not row.plain
        return b"".join(TOTALS_RECORD.pack(*total) for total in sums)

    def records(self, start: int, stop: int, /) -> bytes:
        """Rows ``start`` to ``stop`` (not included) as records; IndexError if there are no such rows."""
        return b"".join(BLOB_RECORD.pack(*row) for row in self._slice(start, stop))

    def runs(self, start: int, stop: int, /) -> bytes:
        """``RUN_RECORD`` of each longest run of rows of one pack within a range of rows; IndexError."""
        return b"".join(RUN_RECORD.pack(*run) for run in self._runs(start, stop))

    def repeats(self, start: int, stop: int, /) -> bytes:
        """``REPEAT_RECORD`` of each row in the range that is not the first of its key; IndexError."""
        rows = enumerate(self._slice(start, stop), start)
        pairs = ((number, self._first[row.type, row.id]) for number, row in rows)
        return b"".join(REPEAT_RECORD.pack(*pair) for pair in pairs if pair[0] != pair[1])

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        first = start
        rows = self._slice(start, stop)
        for number, row in enumerate(rows, start):
            if row.pack != rows[first - start].pack:
                yield rows[first - start].pack, first, number - first
                first = number
        if rows:
            yield rows[first - start].pack, first, stop - first

    def _slice(self, start: int, stop: int) -> list[BlobRow]:
        start, stop = index(start), index(stop)
        if not 0 <= start <= stop <= len(self._rows):
            raise IndexError(f"rows {start} to {stop} are not among {len(self._rows)}")
        return self._rows[start:stop]

    def _flags(self, flags: _Buffer, *, writable: bool) -> memoryview:
        view = memoryview(flags).cast("B")
        if writable and view.readonly:
            raise TypeError("flags must be writable")
        if len(view) != len(self._rows):
            raise ValueError(f"flags must have one byte for each of {len(self._rows)} rows, not {len(view)}")
        return view


def _row(type_: int, id_: _Buffer, pack: int, offset: int, length: int, plain: int) -> BlobRow:
    type_, id_ = _key(type_, id_)
    check("pack", pack, 0, _U31)
    check("offset", offset, 0, _U32)
    check("length", length, 0, _U32)
    check("plain", plain, 0, _U32)
    return BlobRow(type_, id_, index(pack), index(offset), index(length), index(plain))


def _resolve(row: BlobRow, packs: memoryview | None) -> BlobRow:
    """A row of a record, its pack replaced by the number that stands for it."""
    check("type", row.type, 0, 1)
    if packs is None:
        check("pack", row.pack, 0, _U31)
        return row
    if row.pack >= len(packs):
        raise ValueError(f"a record has pack {row.pack} of {len(packs)}")
    check("pack", packs[row.pack], 0, _U31)
    return row._replace(pack=packs[row.pack])


def _key(type_: int, id_: _Buffer) -> _Key:
    check("type", type_, 0, 1)
    octets = bytes(memoryview(id_).cast("B"))
    if len(octets) != ID_BYTES:
        raise ValueError(f"id must have {ID_BYTES} bytes, not {len(octets)}")
    return index(type_), octets


def _keys(type_: int, ids: _Buffer) -> list[_Key]:
    check("type", type_, 0, 1)
    octets = _octets("ids", ids, ID_BYTES)
    type_ = index(type_)
    return [(type_, octets[at : at + ID_BYTES]) for at in range(0, len(octets), ID_BYTES)]


def _octets(name: str, data: _Buffer, size: int) -> bytes:
    octets = bytes(memoryview(data).cast("B"))
    if len(octets) % size:
        raise ValueError(f"{name} must be a multiple of {size} bytes, not {len(octets)}")
    return octets
