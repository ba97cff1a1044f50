"""Of each used blob one copy is kept: which, and what that makes of each pack."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cdr_plugin.errors import FormatError
from cdr_restic.care.prune_plan import PackUse
from cdr_restic.care.used import USED
from cdr_restic.files import SealedFiles
from cdr_restic.index import MemoryIndex
from cdr_restic.packs import EMPTY_PACK_BYTES, PackEntry
from cdr_restic.storage import FileKind

_COPY, KEPT, _CHOSEN, _ELSEWHERE, _AGAIN, _SPARE = 2, 4, 8, 16, 32, 64
"""Flags of rows, beside USED. A copy is one of several rows of a used blob, and spare when it is not the one that
is kept. Of a blob's first row: one of its copies is chosen; one is in a pack that stays. Again: another index file
lists the same pack with the same blob."""

_COPIES = re.compile(b"[" + b"".join(re.escape(bytes([flag])) for flag in range(256) if flag & _COPY) + b"]", re.DOTALL)
_KEEP_SINGLE = bytes(flag | KEPT if flag & USED and not flag & _COPY else flag for flag in range(256))
_SPARE_COPIES = bytes(flag | _SPARE if flag & _COPY and not flag & KEPT else flag for flag in range(256))


@dataclass(frozen=True, slots=True)
class ListedFile:
    """An index file and the rows of its blobs."""

    name: str
    rows: range


class Rows:
    """The index with every copy of every blob, one byte of flags for each row, and the files it came from."""

    def __init__(self, index: MemoryIndex, listed: list[ListedFile]) -> None:
        self.index = index
        self.listed = listed
        self.flags = index.new_flags()
        self.doubled: set[int] = set()
        """Numbers of packs that several index files list, or one several times."""
        self._has_blobs = bytearray(index.pack_count)
        for run in index.packs():
            if self._has_blobs[run.number]:
                self.doubled.add(run.number)
            self._has_blobs[run.number] = 1
        self._mark_again()

    def number(self, name: str) -> int | None:
        """Of the pack with this name, if the index lists it with blobs."""
        number = self.index.pack_number(name)
        return number if number is not None and self._has_blobs[number] else None

    def _mark_again(self) -> None:
        """A pack that several index files list has its blobs once."""
        if not self.doubled:
            return
        seen: set[tuple[int, PackEntry]] = set()
        for run in self.index.packs():
            if run.number in self.doubled:
                for row, item in enumerate(self.index.rows(run.first, run.blobs), run.first):
                    if item in seen:
                        self.flags[row] |= _AGAIN
                    seen.add(item)

    def choose(self) -> None:
        """Keep one row of each used blob: the first in a pack with other kept rows or in a pack of nothing but copies,
        else the first of all. To be called once, when all used blobs are marked."""
        for row, first in self.index.repeats():
            if self.flags[first] & USED and not self.flags[row] & _AGAIN:
                self.flags[row] |= _COPY
                self.flags[first] |= _COPY
        self.flags = self.flags.translate(_KEEP_SINGLE)
        kept, copies = self.index.totals(self.flags, KEPT), self.index.totals(self.flags, _COPY | _AGAIN)
        joined: set[int] = set()
        for row, pack, first in self._undecided():
            if kept[pack].marked or copies[pack].other == 0 or pack in joined:
                joined.add(pack)
                self._choose(row, first)
        for row, _, first in self._undecided():
            self._choose(row, first)
        self.flags = self.flags.translate(_SPARE_COPIES)

    def _choose(self, row: int, first: int) -> None:
        self.flags[row] |= KEPT
        self.flags[first] |= _CHOSEN

    def _undecided(self) -> Iterator[tuple[int, int, int]]:
        """Copies of blobs of which none is chosen yet: row, pack, first row of the blob."""
        for row, pack, first in self._copies():
            if not self.flags[first] & _CHOSEN:
                yield row, pack, first

    def _copies(self) -> Iterator[tuple[int, int, int]]:
        for found in _COPIES.finditer(self.flags):
            row = found.start()
            pack, entry = next(self.index.rows(row, 1))
            yield row, pack, self.index.row(entry.type, entry.id)

    def pack_uses(self, *, compress_data: bool, compress_trees: bool) -> Iterator[PackUse]:
        """What each pack that the index lists with blobs holds; ``compress``: what must not stay uncompressed."""
        kept, spare, again = (self.index.totals(self.flags, mask) for mask in (KEPT, _SPARE, _AGAIN))
        for number in range(self.index.pack_count):
            total = kept[number]
            if total.blobs == 0:
                continue
            use = PackUse(number, kept=total.marked, kept_bytes=total.marked_bytes)
            use.duplicate, use.duplicate_bytes = spare[number].marked, spare[number].marked_bytes
            use.unused = total.other - use.duplicate - again[number].marked
            use.unused_bytes = total.other_bytes - use.duplicate_bytes - again[number].marked_bytes
            if use.kept:
                use.kept_bytes += EMPTY_PACK_BYTES
            else:
                use.unused_bytes += EMPTY_PACK_BYTES
            use.has_trees = total.trees > 0
            use.has_data = total.trees < total.blobs
            use.must_compress = total.uncompressed > 0 and (compress_trees if use.has_trees else compress_data)
            yield use

    def to_copy(self, repacked: set[int], gone: set[int]) -> Iterator[tuple[str, list[PackEntry]]]:
        """For each pack to repack its name and the blobs to copy from it, by offset: those kept there, unless a
        pack that stays holds a copy."""
        self._mark_elsewhere(gone)
        for run in self.index.packs():
            if run.number in repacked:
                rows = enumerate(self.index.rows(run.first, run.blobs), run.first)
                wanted = [entry for row, (_, entry) in rows if self._must_copy(row, entry)]
                yield run.name, sorted(wanted, key=lambda entry: entry.offset)

    def _mark_elsewhere(self, gone: set[int]) -> None:
        for row, pack, first in self._copies():
            if pack not in gone and self.flags[row] & _SPARE:
                self.flags[first] |= _ELSEWHERE

    def _must_copy(self, row: int, entry: PackEntry) -> bool:
        flags = self.flags[row]
        if not flags & _COPY:
            return bool(flags & KEPT)
        return bool(flags & KEPT) and not self.flags[self.index.row(entry.type, entry.id)] & _ELSEWHERE


def load_rows(files: SealedFiles) -> Rows:
    """The whole index; IntegrityError that names the file that cannot be read."""
    index = MemoryIndex(duplicates=True)
    listed = []
    for name in sorted(files.storage.list(FileKind.INDEX)):
        data = files.load(FileKind.INDEX, name)
        try:
            listed.append(ListedFile(name, index.load(data, files.version)))
        except FormatError as error:
            raise files.damaged(FileKind.INDEX, name, error) from None
    return Rows(index, listed)
