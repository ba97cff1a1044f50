"""What an operator does to a repository besides backing up and restoring; one module for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cdr_plugin.care import (
    CheckOptions,
    CheckReport,
    KeyInfo,
    LockInfo,
    PruneOptions,
    PruneReport,
    RepairReport,
    RepositoryCare,
)
from cdr_plugin.contracts import RepositoryOptions
from cdr_plugin.model.versions import Snapshot
from cdr_restic.crypto import KeyMaterial
from cdr_restic.storage import Storage

if TYPE_CHECKING:
    from cdr_restic.repository import ResticRepository


class ResticCare(RepositoryCare):
    """Care of an open repository. Each module is imported where it is called."""

    def __init__(
        self, repository: ResticRepository, storage: Storage, key: KeyMaterial, options: RepositoryOptions
    ) -> None:
        self._repository = repository
        self._storage = storage
        self._key = key
        self._options = options

    def check(self, options: CheckOptions) -> CheckReport:
        from cdr_restic.care.check import check

        with self._repository.exclusive(only_looks=True, with_versions=False) as held:
            return check(held, options)

    def forget(self, ids: Sequence[str], prune: PruneOptions | None = None) -> PruneReport | None:
        from cdr_restic.care.forget import remove_versions
        from cdr_restic.care.prune import check_prune
        from cdr_restic.care.prune import prune as run

        with self._repository.exclusive() as held:
            if prune:
                check_prune(held, prune)
            remove_versions(held, ids)
            return run(held, prune, without=ids) if prune else None

    def prune(self, options: PruneOptions, without: Sequence[str] = ()) -> PruneReport:
        from cdr_restic.care.prune import prune

        with self._repository.exclusive(only_looks=options.dry_run) as held:
            return prune(held, options, without=without)

    def replace_versions(self, changed: Mapping[str, Snapshot]) -> Mapping[str, str]:
        from cdr_restic.care.forget import replace_versions

        with self._repository.exclusive() as held:
            return replace_versions(held, changed)

    def keys(self) -> Sequence[KeyInfo]:
        from cdr_restic.care.keys import list_keys

        with self._repository.shared(only_looks=True) as files:
            return list_keys(files.storage, self._repository.key_id, self._options.reporter)

    def add_key(self, password: str, user: str = "", host: str = "") -> str:
        from cdr_restic.care.keys import add_password

        with self._repository.shared() as files:
            return add_password(files.storage, self._key, password, user, host)

    def remove_key(self, id_: str) -> None:
        from cdr_restic.care.keys import remove_key

        with self._repository.exclusive(with_versions=False) as held:
            remove_key(held, id_)

    def change_password(self, password: str) -> str:
        from cdr_restic.care.keys import change_password

        with self._repository.exclusive(with_versions=False) as held:
            self._repository.key_id = change_password(held, password)
            return self._repository.key_id

    def locks(self) -> Sequence[LockInfo]:
        from cdr_restic.care.unlock import list_locks

        return list_locks(self._repository.files())

    def unlock(self, *, all_locks: bool = False) -> int:
        from cdr_restic.care.unlock import unlock

        return unlock(self._repository.files(), self._options.reporter, all_locks=all_locks)

    def repair_index(self, *, read_all_packs: bool = False) -> RepairReport:
        from cdr_restic.care.repair_index import repair_index

        with self._repository.exclusive(with_versions=False) as held:
            return repair_index(held, read_all_packs=read_all_packs)

    def repair_packs(self, ids: Sequence[str]) -> RepairReport:
        from cdr_restic.care.repair_packs import repair_packs

        with self._repository.exclusive(with_versions=False) as held:
            return repair_packs(held, ids)

    def repair_versions(self, ids: Sequence[str], *, forget: bool, dry_run: bool) -> RepairReport:
        from cdr_restic.care.repair_versions import repair_versions

        with self._repository.exclusive(only_looks=dry_run) as held:
            return repair_versions(held, ids, forget=forget, dry_run=dry_run)
