"""Removes what no version reaches. ``docs/design/prune.md`` has the order of durable actions and why it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import chain

from cdr_plugin.care import PruneOptions, PruneReport
from cdr_plugin.errors import IntegrityError, UserError
from cdr_restic.care.copies import Rows, load_rows
from cdr_restic.care.prune_plan import PackUse, PrunePlan, check_options, plan_prune, require_packs
from cdr_restic.care.relist import files_to_replace, remaining_packs, save_indexes
from cdr_restic.care.removing import remove_files
from cdr_restic.care.repack import Repacker
from cdr_restic.care.used import mark_used
from cdr_restic.index import IndexedPack
from cdr_restic.packing import PackWriter
from cdr_restic.reading import ResticReader
from cdr_restic.repository import Held
from cdr_restic.storage import FileKind

_SHOWN = 5
_WAITING = 1
"""New packs being stored while the next is filled, of 17 MB or so each: reading is what takes the time here."""


def prune(held: Held, options: PruneOptions, without: Sequence[str] = ()) -> PruneReport:
    """Remove what no version but those in ``without`` (full IDs) reaches.

    Raises before anything is changed: UserError for options, IntegrityError when snapshots, index, trees or needed
    packs are not as they should be. Whatever is raised later, every version is as it was.
    """
    check_prune(held, options)
    _check_removed(held, options, without)
    rows = load_rows(held.files)
    _mark(held, rows, without)
    plan = _plan(held, rows, options)
    if not options.dry_run:
        _Pruning(held, rows, plan).run()
    return plan.report


def check_prune(held: Held, options: PruneOptions) -> None:
    """UserError for what cannot be done to this repository."""
    check_options(options)
    if options.repack_uncompressed and held.files.version < 2:
        raise UserError("repack-uncompressed: only repositories of version 2 compress; see 'restic migrate'")
    if options.repack_uncompressed and held.options.compression == "off":
        raise UserError("repack-uncompressed: compression is 'off', so there is nothing to do")


def _check_removed(held: Held, options: PruneOptions, without: Sequence[str]) -> None:
    if options.dry_run:
        return
    for id_ in without:
        if held.files.storage.exists(FileKind.SNAPSHOTS, id_):
            raise UserError(f"version {id_[:8]} still exists, so what it needs cannot be pruned; forget it first")


def _mark(held: Held, rows: Rows, without: Sequence[str]) -> None:
    """Mark what versions need, and choose the copy to keep of each blob."""
    ignored = set(without)
    roots = {version.snapshot.tree for version in held.versions if version.id not in ignored}
    with closing(ResticReader(held.files.storage, held.key, rows.index)) as reader:
        mark_used(rows.index, reader, sorted(roots), rows.flags, held.options.reporter)
    rows.choose()


def _plan(held: Held, rows: Rows, options: PruneOptions) -> PrunePlan:
    stored: dict[int, int] = {}
    unindexed: dict[str, int] = {}
    for name, size in held.files.storage.list_sizes(FileKind.DATA):
        number = rows.number(name)
        if number is None:
            unindexed[name] = size
        else:
            stored[number] = size
    compresses = held.files.version >= 2
    compress_data = compresses and options.repack_uncompressed

    def uses() -> Iterable[PackUse]:
        return rows.pack_uses(compress_data=compress_data, compress_trees=compresses)

    _refuse_bad_packs(held, rows, *require_packs(uses(), stored))
    return plan_prune(uses(), stored, unindexed, options, held.options.pack_size)


def _refuse_bad_packs(held: Held, rows: Rows, missing: Sequence[int], wrong: Sequence[int]) -> None:
    for numbers, problem in ((missing, "missing"), (wrong, "of another size than the index says")):
        if numbers:
            names = ", ".join(rows.index.pack_name(number)[:10] for number in numbers[:_SHOWN])
            more = ", ..." if len(numbers) > _SHOWN else ""
            raise IntegrityError(
                f"repository {held.files.storage.location}: {len(numbers)} packs that versions need are {problem}: "
                f"{names}{more}; nothing was changed; see 'cdr check', then 'cdr repair index'"
            )


class _Pruning:
    """Carries a plan out, step by step; each ends before the next begins."""

    def __init__(self, held: Held, rows: Rows, plan: PrunePlan) -> None:
        self._held = held
        self._files = held.files
        self._storage = held.files.storage
        self._lock = held.lock
        self._rows = rows
        self._plan = plan

    def run(self) -> None:
        self._remove_unindexed()
        self._replace_indexes(self._repack())
        self._remove_old_packs()

    def _remove_unindexed(self) -> None:
        remove_files(self._storage, self._lock, FileKind.DATA, self._plan.unindexed, self._held.options.reporter)
        if self._held.journal.packs:
            self._held.journal.note_indexed()

    def _repack(self) -> list[IndexedPack]:
        """Copy what is kept of the packs to repack; the new packs that no index file lists yet."""
        plan, options = self._plan, self._held.options
        if not plan.repacked:
            return []
        self._lock.confirm()
        writer = PackWriter(
            self._files,
            self._held.key,
            self._held.journal,
            _Numbers(),
            options.pack_size,
            self._lock.check,
            self._lock.confirm,
            waiting=_WAITING,
        )
        with closing(writer):
            repacker = Repacker(self._files, self._held.key, options.compression, writer, options.reporter)
            repacker.copy(self._rows.to_copy(set(plan.repacked), plan.gone))
            writer.store_all()
            return writer.take_unindexed()

    def _replace_indexes(self, new: list[IndexedPack]) -> None:
        gone = self._plan.gone
        replaced = files_to_replace(self._rows, gone, adding=bool(new))
        save_indexes(self._files, chain(new, remaining_packs(self._rows, replaced, gone)), self._lock.confirm)
        if self._plan.repacked:
            self._held.journal.note_indexed()
        remove_files(self._storage, self._lock, FileKind.INDEX, [listed.name for listed in replaced])

    def _remove_old_packs(self) -> None:
        names = [self._rows.index.pack_name(number) for number in (*self._plan.removed, *self._plan.repacked)]
        remove_files(self._storage, self._lock, FileKind.DATA, names, self._held.options.reporter)


class _Numbers:
    """Nobody looks up what is being copied, so new packs need no numbers."""

    def new_pack(self) -> int:
        return 0

    def name_pack(self, number: int, name: str) -> None:
        pass
