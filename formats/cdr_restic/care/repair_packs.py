"""Saves what can be read of damaged packs, then removes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing

from cdr_plugin.care import RepairReport
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError, UserError
from cdr_plugin.model.blobs import BlobType
from cdr_restic.care.copies import Rows, load_rows
from cdr_restic.care.relist import files_to_replace, remaining_packs, save_indexes
from cdr_restic.care.removing import remove_files
from cdr_restic.opening import BlobOpener
from cdr_restic.packing import PackWriter
from cdr_restic.packs import PackEntry, load_header
from cdr_restic.repository import Held
from cdr_restic.storage import FileKind


def repair_packs(held: Held, ids: Sequence[str]) -> RepairReport:
    """Copy every blob of the packs ``ids`` (or their only start) that still verifies into new packs, list those, and
    only then remove the packs. What another pack holds as well is copied all the same: that one may be damaged too, and
    pruning removes the surplus.

    UserError for an ID that no pack has, IntegrityError for a damaged index (repair that first); then nothing is
    changed. A crash leaves the packs as they were, or blobs stored twice.
    """
    rows = load_rows(held.files)
    return _Repair(held, rows, _full_names(held, rows, ids)).run()


def _full_names(held: Held, rows: Rows, ids: Sequence[str]) -> list[str]:
    known = {name for name, _ in held.files.storage.list_sizes(FileKind.DATA)}
    known |= {run.name for run in rows.index.packs()}
    names = []
    for id_ in ids:
        found = [name for name in known if name.startswith(id_)]
        if len(found) != 1:
            problem = "more than one pack begins so" if found else "there is no such pack"
            raise UserError(f"pack {id_[:80]!r}: {problem}; 'cdr check' names damaged ones")
        names.append(found[0])
    return list(dict.fromkeys(names))


class _Repair:
    def __init__(self, held: Held, rows: Rows, names: list[str]) -> None:
        self._held = held
        self._storage = held.files.storage
        self._rows = rows
        self._names = names
        self._report = RepairReport()
        self._opener = BlobOpener(held.key)
        self._elsewhere = self._blobs_elsewhere()

    def run(self) -> RepairReport:
        numbers = {number for name in self._names if (number := self._rows.number(name)) is not None}
        held = self._held
        writer = PackWriter(
            held.files, held.key, held.journal, self._rows.index, held.options.pack_size,
            held.lock.check, held.lock.confirm,
        )  # fmt: skip
        replaced = files_to_replace(self._rows, numbers, adding=True)
        remaining = list(remaining_packs(self._rows, replaced, numbers))
        with closing(writer):
            for name in self._names:
                self._save(name, writer)
            writer.store_all()
            save_indexes(held.files, [*remaining, *writer.take_unindexed()], held.lock.confirm)
        held.journal.note_indexed()
        remove_files(self._storage, held.lock, FileKind.INDEX, [listed.name for listed in replaced])
        remove_files(self._storage, held.lock, FileKind.DATA, self._names)
        return self._report

    def _blobs_elsewhere(self) -> set[tuple[BlobType, bytes]]:
        """Of the blobs in these packs those that another pack holds too."""
        index = self._rows.index
        chosen = {index.pack_number(name) for name in self._names}
        wanted = {(entry.type, entry.id) for name in self._names for entry in self._entries_listed(name)}
        found: set[tuple[BlobType, bytes]] = set()
        for run in index.packs() if wanted else ():
            if run.number not in chosen:
                entries = (entry for _, entry in index.rows(run.first, run.blobs))
                found |= {(entry.type, entry.id) for entry in entries if (entry.type, entry.id) in wanted}
        return found

    def _entries_listed(self, name: str) -> list[PackEntry]:
        number = self._rows.number(name)
        return [] if number is None else list(dict.fromkeys(self._rows.index.entries(number)))

    def _save(self, name: str, writer: PackWriter) -> None:
        saved = lost = 0
        for entry in self._entries(name):
            sealed = self._read(name, entry)
            if sealed is not None:
                writer.pack(entry.type).append_sealed(entry.type, entry.id, sealed, entry.plain)
                writer.added(entry.type)
                saved += 1
            elif (entry.type, entry.id) not in self._elsewhere:
                lost += 1
                self._report.lost.append(f"{entry.type.name.lower()} blob {entry.id.hex()} of pack {name[:10]}")
        self._report.done.append(f"pack {name}: saved {saved} blobs, lost {lost}; removed")

    def _entries(self, name: str) -> Iterable[PackEntry]:
        """As the index lists them, and as the header does where that can be read."""
        entries = dict.fromkeys(self._entries_listed(name))
        try:
            size = self._storage.size(FileKind.DATA, name)
            header = load_header(
                lambda offset, length: self._storage.load_part(FileKind.DATA, name, offset, length),
                size,
                self._opener.sealer,
            )
        except (IntegrityError, NotFoundError):
            return entries
        return dict.fromkeys([*entries, *header])

    def _read(self, name: str, entry: PackEntry) -> bytes | None:
        """The sealed blob; None unless it verifies."""
        try:
            sealed = self._storage.load_part(FileKind.DATA, name, entry.offset, entry.length)
            if len(sealed) != entry.length:
                raise FormatError("the pack ends before it")
            self._opener.open(entry.type, entry.id, sealed, entry.plain)
        except (IntegrityError, NotFoundError):
            return None
        return sealed
