"""Copies versions from one repository into another, with the blobs that are not there yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from cdr_plugin.contracts import RepositoryPass, RepositoryReader, StoredVersion
from cdr_plugin.errors import CdrError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import content_ids, decode_tree, subtree_ids
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.reporter import Reporter

_BATCH_BLOBS = 16 * 1024
"""Blobs read in one go, pack by pack; their IDs take 2 MB."""


@dataclass(slots=True)
class CopyReport:
    """``copied``: old ID to new one. ``present``: versions that were there already. Plain bytes."""

    copied: dict[str, str]
    present: int = 0
    failed: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    bytes: int = 0


def copy_versions(
    source: RepositoryReader, target: RepositoryPass, versions: Sequence[StoredVersion], reporter: Reporter
) -> CopyReport:
    """Copy ``versions``, in their order, unless equal ones are there.

    Each is visible in the target once all of it is stored; so whatever ends this, running it again goes
    on. A version that the source cannot give whole is reported and left out.
    """
    report = CopyReport({})
    there = _by_origin(target.versions)
    blobs = _Blobs(source, target, report, reporter)
    for version in versions:
        if any(_same(version.snapshot, other) for other in there.get(_origin(version), ())):
            report.present += 1
            continue
        try:
            blobs.copy(BlobId(bytes.fromhex(version.snapshot.tree)))
        except (IntegrityError, NotFoundError) as error:
            report.failed += 1
            reporter.error(f"version {version.id[:8]}", "copy", error)
            continue
        new = _copied(version)
        report.copied[version.id] = target.add_version(new)
        there.setdefault(_origin(version), []).append(new)
    return report


def _by_origin(versions: Sequence[StoredVersion]) -> dict[str, list[Snapshot]]:
    found: dict[str, list[Snapshot]] = {}
    for version in versions:
        found.setdefault(_origin(version), []).append(version.snapshot)
    return found


def _origin(version: StoredVersion) -> str:
    return version.snapshot.original or version.id


def _copied(version: StoredVersion) -> Snapshot:
    return msgspec.structs.replace(version.snapshot, parent="", original=_origin(version))


def _same(one: Snapshot, other: Snapshot) -> bool:
    """Equal in all that a copy keeps: restic leaves out ``parent`` and ``original``."""
    return _compared(one) == _compared(other)


def _compared(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(snapshot, parent="", original="")


class _Blobs:
    """Copies what trees reach. A tree that the target has is walked all the same, once: an interrupted
    copy may have stored it without what is below."""

    def __init__(
        self, source: RepositoryReader, target: RepositoryPass, report: CopyReport, reporter: Reporter
    ) -> None:
        self._source = source
        self._target = target
        self._report = report
        self._reporter = reporter
        self._walked: set[BlobId] = set()

    def copy(self, root: BlobId) -> None:
        """Everything below ``root``; NotFoundError, IntegrityError of the source."""
        walked: list[BlobId] = []
        level = [root] if root not in self._walked else []
        try:
            while level:
                walked += level
                self._walked.update(level)
                level = [below for batch in _batches(level) for below in self._copy_trees(batch)]
        except CdrError:
            # Something below is missing: whoever shares these trees must find out as well.
            self._walked.difference_update(walked)
            raise

    def _copy_trees(self, ids: Sequence[BlobId]) -> list[BlobId]:
        """Copy trees with the data that they name; the trees below that were not walked before."""
        below: dict[BlobId, None] = {}
        wanted: dict[BlobId, None] = {}
        for id_, data in self._source.read_many(BlobType.TREE, ids):
            nodes = decode_tree(data)
            below.update((BlobId(tree), None) for tree in subtree_ids(nodes))
            wanted.update((BlobId(blob), None) for blob in content_ids(nodes))
            if self._target.add(BlobType.TREE, id_, data):
                self._report.tree_blobs += 1
                self._count(data)
            if len(wanted) >= _BATCH_BLOBS:
                self._copy_data(wanted)
                wanted.clear()
        self._copy_data(wanted)
        return [id_ for id_ in below if id_ not in self._walked]

    def _copy_data(self, ids: Mapping[BlobId, None]) -> None:
        missing = [id_ for id_ in ids if not self._target.has(BlobType.DATA, id_)]
        for id_, data in self._source.read_many(BlobType.DATA, missing) if missing else ():
            if self._target.add(BlobType.DATA, id_, data):
                self._report.data_blobs += 1
                self._count(data)

    def _count(self, data: bytes) -> None:
        self._report.bytes += len(data)
        self._reporter.progress(blobs=self._report.data_blobs + self._report.tree_blobs, bytes=self._report.bytes)


def _batches(ids: Sequence[BlobId]) -> Iterator[Sequence[BlobId]]:
    for at in range(0, len(ids), _BATCH_BLOBS):
        yield ids[at : at + _BATCH_BLOBS]
