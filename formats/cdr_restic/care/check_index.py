"""Index files against each other and against the packs that are there."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate

from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_restic.care.check_report import Findings
from cdr_restic.files import SealedFiles
from cdr_restic.index import MemoryIndex, PackRun, PackTotals
from cdr_restic.packs import EMPTY_PACK_BYTES, PackEntry, pack_bytes
from cdr_restic.storage import FileKind, Storage

_MISSING = -1
_UNINDEXED_SHOWN = 20


def load_indexes(files: SealedFiles, findings: Findings) -> MemoryIndex:
    """All that can be loaded; with every copy of a blob."""
    index = MemoryIndex(duplicates=True)
    for name in sorted(files.storage.list(FileKind.INDEX)):
        try:
            index.load(files.load(FileKind.INDEX, name), files.version)
        except FormatError as error:
            _bad_index(findings, files.damaged(FileKind.INDEX, name, error))
        except (IntegrityError, NotFoundError) as error:
            _bad_index(findings, error)
    return index


def _bad_index(findings: Findings, error: Exception) -> None:
    findings.report.suggest_repair_index = True
    findings.error(str(error))


class IndexedPacks:
    """The packs of an index, by number, with their sizes in the storage."""

    def __init__(self, index: MemoryIndex, storage: Storage) -> None:
        self.index = index
        self.sizes = array("q", [_MISSING]) * index.pack_count
        """Bytes; -1 for packs that are not there."""
        self.unindexed: list[str] = []
        """The first few of ``unindexed_count``."""
        self.unindexed_count = 0
        self._totals = index.totals(index.new_flags())
        self._several = _listed_several_times(index)
        """Runs of the packs that have more than one."""
        for name, size in storage.list_sizes(FileKind.DATA):
            self._note(name, size)

    def _note(self, name: str, size: int) -> None:
        number = self.index.pack_number(name)
        if number is not None and self._totals[number].blobs:
            self.sizes[number] = size
            return
        self.unindexed_count += 1
        if len(self.unindexed) < _UNINDEXED_SHOWN:
            self.unindexed.append(name)

    def __len__(self) -> int:
        return sum(1 for total in self._totals if total.blobs)

    def numbers(self) -> Iterable[int]:
        """Those that list any blob."""
        return (number for number, total in enumerate(self._totals) if total.blobs)

    def present(self) -> list[int]:
        return [number for number in self.numbers() if self.sizes[number] != _MISSING]

    def total(self, number: int) -> PackTotals:
        return self._totals[number]

    def entries(self, number: int) -> list[PackEntry]:
        """Each blob of the pack once, as it stands in the index, ascending by offset."""
        entries = self.index.entries(number)
        if number in self._several:
            entries = list(set(entries))
        return sorted(entries, key=lambda entry: entry.offset)

    def listings(self, number: int) -> list[list[PackEntry]]:
        """Of a pack that is listed more than once, the blobs of each time; else nothing."""
        runs = self._several.get(number, ())
        return [sorted(entry for _, entry in self.index.rows(run.first, run.blobs)) for run in runs]

    def expected_size(self, number: int) -> int:
        if number in self._several:
            return pack_bytes(self.entries(number))
        total = self._totals[number]
        return total.marked_bytes + total.other_bytes + EMPTY_PACK_BYTES


def _listed_several_times(index: MemoryIndex) -> dict[int, list[PackRun]]:
    seen = bytearray(index.pack_count)
    for run in index.packs():
        seen[run.number] = min(seen[run.number] + 1, 2)
    several: dict[int, list[PackRun]] = {}
    if 2 in seen:
        for run in index.packs():
            if seen[run.number] == 2:
                several.setdefault(run.number, []).append(run)
    return several


def check_packs(packs: IndexedPacks, findings: Findings) -> list[int]:
    """Compare index and storage; the numbers of packs of a wrong size."""
    wrong = []
    for number in packs.numbers():
        _check_listing(packs, number, findings)
        size = packs.sizes[number]
        name = packs.index.pack_name(number)
        if size == _MISSING:
            blobs = [(entry.type, entry.id) for entry in packs.entries(number)]
            findings.report.suggest_repair_index = True
            findings.break_pack(f"pack {name} is missing, and with it {len(blobs)} blobs", name, blobs)
        elif size != packs.expected_size(number):
            wrong.append(number)
    _hint_unindexed(packs, findings)
    return wrong


def _check_listing(packs: IndexedPacks, number: int, findings: Findings) -> None:
    name = packs.index.pack_name(number)
    lists = packs.listings(number)
    if lists:
        _check_copies(lists, name, findings)
    if packs.total(number).is_mixed:
        findings.report.suggest_prune = True
        findings.hint(f"pack {name} holds data and trees; 'cdr prune' parts them", pack=name)
    problem = _layout_problem(packs.entries(number))
    if problem:
        findings.report.suggest_repair_index = True
        findings.error(f"pack {name}: its blobs {problem}, says the index", pack=name)


def _check_copies(lists: Sequence[list[PackEntry]], name: str, findings: Findings) -> None:
    findings.report.suggest_repair_index = True
    if any(other != lists[0] for other in lists):
        findings.error(f"pack {name} is listed {len(lists)} times, with different blobs", pack=name)
    else:
        findings.hint(f"pack {name} is listed {len(lists)} times, by several indexes", pack=name)


def _layout_problem(entries: Sequence[PackEntry]) -> str:
    """Gaps and overlaps cannot be in a pack, whose header gives lengths only."""
    begins = [entry.offset for entry in entries]
    ends = list(accumulate((entry.length for entry in entries), initial=0))
    if begins == ends[:-1]:
        return ""
    first = next(at for at, begin in enumerate(begins) if begin != ends[at])
    return f"{'overlap' if begins[first] < ends[first] else 'leave a gap'} at {begins[first]}"


def _hint_unindexed(packs: IndexedPacks, findings: Findings) -> None:
    if not packs.unindexed_count:
        return
    findings.report.suggest_prune = True
    names = ", ".join(packs.unindexed) + (", ..." if packs.unindexed_count > len(packs.unindexed) else "")
    findings.hint(f"{packs.unindexed_count} packs are in no index; 'cdr prune' removes them: {names}")
