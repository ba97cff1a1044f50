"""Makes the index say what the packs hold: lost index files, lost packs, packs that no index lists."""

from __future__ import annotations

from collections.abc import Iterator

from cdr_plugin.care import RepairReport
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_restic.care.copies import ListedFile, Rows
from cdr_restic.care.relist import files_to_replace, remaining_packs, save_indexes
from cdr_restic.care.removing import remove_files
from cdr_restic.crypto import Sealer
from cdr_restic.index import IndexedPack, MemoryIndex
from cdr_restic.packs import PackEntry, load_header, pack_bytes
from cdr_restic.repository import Held
from cdr_restic.storage import FileKind


def repair_index(held: Held, *, read_all_packs: bool) -> RepairReport:
    """Bring the index in line with the packs that are there, trusting it where it fits the size of a pack unless
    ``read_all_packs``.

    New index files are durable before old ones go, so a crash leaves packs listed twice at worst. A pack whose
    header cannot be read keeps the listing it has: it tells 'repair packs' where its blobs are.
    """
    return _Repair(held).run(read_all_packs=read_all_packs)


class _Repair:
    def __init__(self, held: Held) -> None:
        self._held = held
        self._files = held.files
        self._storage = held.files.storage
        self._report = RepairReport()
        self._sealer = Sealer(held.key)
        self._damaged: list[str] = []
        """Names of index files that cannot be read."""
        self._rows = self._load()
        self._sizes = dict(self._storage.list_sizes(FileKind.DATA))

    def run(self, *, read_all_packs: bool) -> RepairReport:
        gone = self._lost_packs()
        found = self._read_packs(self._doubtful(gone, everything=read_all_packs))
        gone |= {number for pack in found if (number := self._rows.number(pack.name)) is not None}
        replaced = files_to_replace(self._rows, gone, adding=bool(found or self._damaged))
        if replaced or found or self._damaged:
            self._replace(replaced, found, gone)
        return self._report

    def _load(self) -> Rows:
        index = MemoryIndex(duplicates=True)
        listed = []
        for name in sorted(self._storage.list(FileKind.INDEX)):
            try:
                listed.append(ListedFile(name, index.load(self._files.load(FileKind.INDEX, name), self._files.version)))
            except IntegrityError as error:
                self._damaged.append(name)
                self._report.done.append(f"removed index {name[:10]}, which cannot be read: {error}")
            except NotFoundError:
                continue
        return Rows(index, listed)

    def _lost_packs(self) -> set[int]:
        gone = set()
        for number, name in self._listed():
            if name not in self._sizes:
                gone.add(number)
                blobs = len(self._rows.index.entries(number))
                self._report.lost.append(f"pack {name} is missing, and with it {blobs} blobs")
        return gone

    def _listed(self) -> Iterator[tuple[int, str]]:
        """Packs that some index lists with blobs, each once."""
        seen = bytearray(self._rows.index.pack_count)
        for run in self._rows.index.packs():
            if not seen[run.number]:
                seen[run.number] = 1
                yield run.number, run.name

    def _doubtful(self, gone: set[int], *, everything: bool) -> list[str]:
        """Packs whose header is to be read: those that no index lists, or not as they are."""
        fitting = {
            name
            for number, name in self._listed()
            if number not in gone and not everything and self._fits(number, name)
        }
        return [name for name in sorted(self._sizes) if name not in fitting]

    def _fits(self, number: int, name: str) -> bool:
        entries = sorted(self._entries(number), key=lambda entry: entry.offset)
        end = 0
        for entry in entries:
            if entry.offset != end:
                return False
            end += entry.length
        return pack_bytes(entries) == self._sizes[name]

    def _entries(self, number: int) -> list[PackEntry]:
        """As listed; what several index files list, once."""
        entries = self._rows.index.entries(number)
        return list(dict.fromkeys(entries)) if number in self._rows.doubled else entries

    def _read_packs(self, names: list[str]) -> list[IndexedPack]:
        found = []
        for count, name in enumerate(names, 1):
            self._held.options.reporter.progress(packs=count, total_packs=len(names))
            self._held.lock.check()
            try:
                entries = self._header(name)
            except NotFoundError:
                continue
            except IntegrityError as error:
                self._report.lost.append(f"pack {name} cannot be listed: {error}; see 'cdr repair packs {name[:10]}'")
                continue
            if self._note(name, entries):
                found.append(IndexedPack(name, entries))
        return found

    def _header(self, name: str) -> list[PackEntry]:
        entries = load_header(
            lambda offset, length: self._storage.load_part(FileKind.DATA, name, offset, length),
            self._sizes[name],
            self._sealer,
        )
        if self._files.version < 2 and any(entry.plain for entry in entries):
            raise FormatError("compressed blobs in a repository of version 1")
        return entries

    def _note(self, name: str, entries: list[PackEntry]) -> bool:
        """Whether the pack is to be listed anew."""
        number = self._rows.number(name)
        if number is None:
            self._report.done.append(f"listed pack {name[:10]} with {len(entries)} blobs")
            return True
        if sorted(self._entries(number)) == sorted(entries) and number not in self._rows.doubled:
            return False
        self._report.done.append(f"listed pack {name[:10]} as its header has it: {len(entries)} blobs")
        return True

    def _replace(self, replaced: list[ListedFile], found: list[IndexedPack], gone: set[int]) -> None:
        packs = [*remaining_packs(self._rows, replaced, gone), *found]
        save_indexes(self._files, packs, self._held.lock.confirm)
        names = [listed.name for listed in replaced] + self._damaged
        remove_files(self._storage, self._held.lock, FileKind.INDEX, names)
        self._report.done.append(f"wrote the index anew for {len(packs)} packs in place of {len(names)} files")
