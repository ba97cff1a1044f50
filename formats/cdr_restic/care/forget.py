"""Removes versions, and puts changed ones in the place of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cdr_plugin.errors import NotFoundError, UserError
from cdr_plugin.model.versions import Snapshot, encode_snapshot
from cdr_restic.repository import Held
from cdr_restic.storage import FileKind, is_file_name


def remove_versions(held: Held, ids: Sequence[str]) -> None:
    """Remove these snapshots (full IDs), in order; no error for one that is gone."""
    _check_ids(ids)
    for id_ in ids:
        held.lock.confirm()
        held.files.storage.remove(FileKind.SNAPSHOTS, id_)
    if ids:
        # Pruning may follow: none may come back after a loss of power, without what it needs.
        held.files.storage.sync_removals(FileKind.SNAPSHOTS)


def replace_versions(held: Held, changed: Mapping[str, Snapshot]) -> dict[str, str]:
    """Write each snapshot, then remove the one with the old ID; old IDs to new ones.

    NotFoundError, before anything is written, for an ID that is not there. A crash leaves some replaced, at most one
    there twice (old and new), and the others as they were.
    """
    _check_ids(tuple(changed))
    known = {version.id for version in held.versions}
    for id_ in changed:
        if id_ not in known:
            raise NotFoundError(
                f"version {id_[:8]} is not in repository {held.files.storage.location}; list the versions again"
            )
    new = {}
    for id_, snapshot in changed.items():
        held.lock.confirm()
        new[id_] = held.files.save(FileKind.SNAPSHOTS, encode_snapshot(snapshot))
        held.lock.confirm()
        held.files.storage.remove(FileKind.SNAPSHOTS, id_)
    return new


def _check_ids(ids: Sequence[str]) -> None:
    for id_ in ids:
        if not is_file_name(id_):
            raise UserError(f"{id_[:80]!r} is not the full ID of a snapshot")
