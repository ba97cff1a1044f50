"""Backs up straight into a repository, as client and top tier do together, in one step for tests."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from threading import Lock

from cdr_plugin.archiver import ArchiveOptions, NewBlob, archive
from cdr_plugin.contracts import Repository, RepositoryPass
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.reporter import Reporter
from cdr_rabin.parameters import Parameters
from cdr_rabin.splitter import RabinSplitter


class PassSink:
    """Hands blobs to a writing pass, which one thread at a time may call."""

    def __init__(self, session: RepositoryPass) -> None:
        self._session = session
        self._mutex = Lock()

    def add_many(self, type_: BlobType, blobs: Sequence[NewBlob]) -> None:
        with self._mutex:
            for id_, data, _, _ in blobs:
                self._session.add(type_, id_, bytes(data))


def backup_into(repository: Repository, *paths: Path, time: str, host: str = "h", tags: Sequence[str] = ()) -> str:
    """A version of ``paths`` as of now; the full ID of its snapshot. ``time`` is RFC 3339."""
    polynomial = int(str(repository.chunker["polynomial"]), 16)
    with tempfile.TemporaryDirectory() as scratch, repository.writing() as session:
        made = archive(
            ArchiveOptions(paths=paths, zone=UTC),
            PassSink(session),
            splitter=lambda: RabinSplitter(Parameters(polynomial, 512 * 1024, 8 * 1024 * 1024, 20)),
            old_catalog=None,
            new_catalog=Path(scratch, "catalog"),
            reporter=Reporter(),
        )
        snapshot = Snapshot(
            time=time, tree=made.root_tree.hex(), paths=made.paths, hostname=host, username="root", tags=list(tags)
        )
        return session.add_version(snapshot)
