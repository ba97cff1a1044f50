"""Writes index files anew without packs that go, and joins small ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cdr_restic.care.copies import ListedFile, Rows
from cdr_restic.files import SealedFiles
from cdr_restic.index import FULL_INDEX_BLOBS, IndexedPack, PackRun, encode_index
from cdr_restic.storage import FileKind

_OVERSIZED_BLOBS = FULL_INDEX_BLOBS + 409_199
"""An index file may exceed the limit by the blobs of one pack; restic splits those that list more."""
_SMALL_FILES = 10
"""So many index files that are not full are joined even where nothing else is to do."""


def files_to_replace(rows: Rows, gone: set[int], *, adding: bool) -> list[ListedFile]:
    """Those that list a pack in ``gone``, or one that several files list, are empty or too large; and, when anything is
    written at all (``adding``: packs will be), all that are not full."""
    must, small = [], []
    for listed, runs in _by_file(rows):
        count = len(listed.rows)
        if not count or count > _OVERSIZED_BLOBS or any(r.number in gone or r.number in rows.doubled for r in runs):
            must.append(listed)
        elif count < FULL_INDEX_BLOBS:
            small.append(listed)
    return must + small if must or adding or len(small) >= _SMALL_FILES else []


def remaining_packs(rows: Rows, replaced: Iterable[ListedFile], gone: set[int]) -> Iterator[IndexedPack]:
    """The packs of those files that stay, each once."""
    names = {listed.name for listed in replaced}
    joined: set[int] = set()
    for listed, runs in _by_file(rows):
        if listed.name not in names:
            continue
        for run in runs:
            if run.number in gone or run.number in joined:
                continue
            if run.number in rows.doubled:
                joined.add(run.number)
                yield IndexedPack(run.name, list(dict.fromkeys(rows.index.entries(run.number))))
            else:
                yield IndexedPack(run.name, [entry for _, entry in rows.index.rows(run.first, run.blobs)])


def save_indexes(files: SealedFiles, packs: Iterable[IndexedPack], confirm: Callable[[], None]) -> None:
    """Index files of these packs, each as full as it should be; ``confirm`` is called before each."""
    waiting: list[IndexedPack] = []
    blobs = 0
    for pack in packs:
        waiting.append(pack)
        blobs += len(pack.entries)
        if blobs >= FULL_INDEX_BLOBS:
            confirm()
            files.save(FileKind.INDEX, encode_index(waiting))
            waiting, blobs = [], 0
    if waiting:
        confirm()
        files.save(FileKind.INDEX, encode_index(waiting))


def _by_file(rows: Rows) -> Iterator[tuple[ListedFile, list[PackRun]]]:
    runs = iter(rows.index.packs())
    run = next(runs, None)
    for listed in rows.listed:
        found = []
        while run is not None and run.first < listed.rows.stop:
            found.append(run)
            run = next(runs, None)
        yield listed, found
