"""A chain with a source folder, stock restic as its judge, and quick to make, copy and settle."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cdr_plugin.archiver import ArchiveOptions, NewBlob, archive
from cdr_plugin.client.backup import BackupOptions, BackupResult, backup
from cdr_plugin.client.send import SendResult
from cdr_plugin.client.states import SegmentState, VersionState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.intermediate.objects import Moved
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.reporter import Reporter
from cdr_restic.creating import create_repository
from cdr_restic.local import LocalStorage
from cdr_restic.locks import LockTimes
from cdr_restic.storage import FileKind
from tests.restic.world import QUICK, Place, blob_copies
from tests.support.chain import PASSWORD, ZONE, Chain
from tests.support.compare import assert_same_tree


def make_quick(
    monkeypatch: pytest.MonkeyPatch, *, segment_bytes: int = 16 * 1024, checkpoint_bytes: int = 64 * 1024
) -> None:
    """Small segments, many checkpoints, locks that do not wait; for this process and its forks."""
    monkeypatch.setattr("cdr_plugin.client.backup.SegmentBuilder", partial(SegmentBuilder, target=segment_bytes))
    monkeypatch.setattr("cdr_plugin.top.sender.CHECKPOINT_BYTES", checkpoint_bytes)
    monkeypatch.setattr("cdr_restic.repository.LockTimes", partial(LockTimes, settle_s=0))


class _Nowhere:
    def add_many(self, type_: BlobType, blobs: Sequence[NewBlob]) -> None:
        pass


@dataclass
class Hierarchy:
    """``base`` holds the tiers, ``source`` what client alice backs up.

    Each method makes fresh objects over the folders, as another process would.
    """

    base: Path
    source: Path
    branched: bool = False
    methods: tuple[str, ...] = ("zstd",)
    spool_limit: int | None = None
    keeps_copy: bool = False

    @classmethod
    def make(
        cls,
        base: Path,
        source: Path,
        *,
        branched: bool = False,
        methods: tuple[str, ...] = ("zstd",),
        spool_limit: int | None = None,
        keeps_copy: bool = False,
    ) -> Hierarchy:
        """Initialised and enrolled; the repository's key is quick to open."""
        made = cls(base, source, branched, methods, spool_limit, keeps_copy)
        chain = made.chain()
        chain.top.state_folder.mkdir(parents=True)
        create_repository(LocalStorage(str(chain.repository)), chain.top.options, {}, QUICK).close()
        chain.init().new_client().state.close()
        chain.top.close()
        return made

    def copy(self, base: Path) -> Hierarchy:
        """The same state in other folders; the source is shared."""
        shutil.copytree(self.base, base)
        return replace(self, base=base)

    def chain(self) -> Chain:
        return Chain(
            self.base,
            branched=self.branched,
            methods=self.methods,
            spool_limit=self.spool_limit,
            keeps_copy=self.keeps_copy,
        )

    def client(self) -> ClientTier:
        return self.chain().client()

    # --- the runs of the tiers, each as its own process would do it ---

    def backup(self, reporter: Reporter | None = None) -> BackupResult:
        client = self.client()
        try:
            return backup(client, BackupOptions(archive=self._options()), reporter or Reporter())
        finally:
            client.state.close()

    def send(self, reporter: Reporter | None = None) -> SendResult:
        client = self.client()
        try:
            return self.chain().send(client, reporter)
        finally:
            client.state.close()

    def branch_receive(self, reporter: Reporter | None = None) -> Moved:
        return self.chain().branch.receive(reporter or Reporter())

    def branch_send(self, reporter: Reporter | None = None) -> Moved:
        return self.chain().branch.send(reporter or Reporter())

    def receive(self, reporter: Reporter | None = None) -> None:
        chain = self.chain()
        try:
            chain.receive(reporter)
        finally:
            chain.top.close()

    @property
    def phases(self) -> list[Callable[[], object]]:
        """What carries a version from the source to the repository and its receipt back, in order."""
        if not self.branched:
            return [self.backup, self.send, self.receive, self.send]
        up: list[Callable[[], object]] = [self.backup, self.send, self.branch_receive, self.branch_send]
        return [*up, self.receive, self.branch_send, self.send]

    def deliver(self) -> None:
        """Everything from the spool to the repository, and the receipts back."""
        for phase in self.phases[1:]:
            phase()

    # --- judging ---

    def _options(self) -> ArchiveOptions:
        # Relative, so that the tree does not hold the folders above, which others change.
        return ArchiveOptions(paths=[self.source.name], cwd=self.source.parent, zone=ZoneInfo(ZONE))

    def source_tree(self) -> bytes:
        """The root tree ID of the source as it is now, all files read."""
        client = self.client()
        catalog = self.base / "oracle-catalog"
        result = archive(
            self._options(),
            _Nowhere(),
            splitter=client.splitter_factory(),
            old_catalog=None,
            new_catalog=catalog,
            reporter=Reporter(),
        )
        catalog.unlink()
        client.state.close()
        return result.root_tree

    def versions(self) -> dict[int, bytes]:
        """The root tree of every version that the client captured."""
        client = self.client()
        found = {row.number: row.tree for row in client.state.versions()}
        client.state.close()
        return found

    def committed(self) -> dict[int, bytes]:
        """The root tree of every version that the client knows to be committed."""
        client = self.client()
        rows = [row for row in client.state.versions() if row.state is VersionState.COMMITTED]
        client.state.close()
        return {row.number: row.tree for row in rows}

    def snapshots(self) -> dict[int, bytes]:
        """The root tree of every version in the repository, by number, of forks one; no version twice."""
        chain = self.chain()
        repository = chain.top.open_repository()
        found: dict[int, bytes] = {}
        seen: set[str] = set()
        for version in repository.versions():
            for tag in version.snapshot.tags:
                if tag.startswith("cdr-version:"):
                    assert tag not in seen
                    seen.add(tag)
                    found[int(tag.split(":")[2])] = bytes.fromhex(version.snapshot.tree)
        repository.close()
        return found

    def assert_settled(self) -> None:
        """All captured versions are committed and nothing is left on the way; no blob twice."""
        captured = self.versions()
        assert self.snapshots() == captured
        assert self.committed() == captured
        self.assert_nothing_on_the_way()
        self.assert_no_blob_twice()

    def assert_nothing_on_the_way(self) -> None:
        client = self.client()
        waiting = client.state.segments(SegmentState.SPOOLED, SegmentState.SENT, SegmentState.TAKEN)
        client.state.close()
        assert waiting == [], [(row.parcel_ord, row.index, row.state) for row in waiting]
        chain = self.chain()
        for folder in (chain.inbox, chain.lower, chain.branch.spool):
            left = [path for path in folder.glob("clients/*/*/*") if path.is_file()]
            assert left == [], left
        assert list(chain.branch.spool.glob(".tmp-*")) == []
        assert list(LocalStorage(str(chain.repository)).list(FileKind.LOCKS)) == []

    def assert_no_blob_twice(self) -> None:
        copies = Counter(blob_copies(self._place()))
        assert [blob for blob, count in copies.items() if count > 1] == []

    def _place(self) -> Place:
        chain = self.chain()
        return Place(chain.repository, chain.top.state_folder / "repository", PASSWORD)

    def restic(self, *arguments: str, zone: str = ZONE) -> str:
        """Standard output of the stock program, run beside the source; it must succeed."""
        place = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(self.chain().repository), "TZ": zone}
        done = subprocess.run(
            ["restic", "--no-cache", *arguments],
            env={**os.environ, **place},
            cwd=self.source.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def check(self) -> None:
        assert "no errors were found" in self.restic("check", "--read-data")

    def assert_restores(self, folder: Path) -> None:
        """restic brings the newest version back, equal to the source."""
        self.restic("restore", "latest", "--host", "alice", "--target", str(folder))
        assert_same_tree(self.source, folder / self.source.name)
        shutil.rmtree(folder)

    def assert_restic_agrees(self) -> None:
        """``restic backup`` of the source makes the tree of the newest version, and no new pack."""
        packs = set((self.chain().repository / "data").rglob("*"))
        self.restic("backup", "--host", "oracle", "--force", self.source.name)
        chain = self.chain()
        repository = chain.top.open_repository()
        found = [v for v in repository.versions() if v.snapshot.hostname == "oracle"]
        repository.close()
        assert found[-1].snapshot.tree == self.versions()[max(self.versions())].hex()
        assert set((self.chain().repository / "data").rglob("*")) == packs
        self.restic("forget", found[-1].id)
