"""A repository in memory that can be mounted, and get versions while it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from cdr_plugin.contracts import Repository, RepositoryPass, RepositoryReader, Settings, StoredVersion
from cdr_plugin.errors import RemoteError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.reporter import Reporter
from tests.look.world import CountingReader


class MemoryRepository(Repository):
    """Its one reader knows all blobs; ``locks`` is how many readers are open."""

    id = "00"
    location = "memory"

    def __init__(self) -> None:
        self.reader = CountingReader()
        self.stored: list[StoredVersion] = []
        self.locks = 0
        self.opened = 0
        self.looked = 0
        self.fails = False

    def add(self, tree: BlobId, time: str = "2024-01-01T10:00:00Z", host: str = "h", *tags: str) -> StoredVersion:
        snapshot = Snapshot(time=time, tree=tree.hex(), paths=["/"], hostname=host, tags=list(tags))
        self.stored.append(StoredVersion(f"{len(self.stored):08x}" + "0" * 56, snapshot))
        return self.stored[-1]

    @property
    def chunker(self) -> Settings:
        return {}

    def writing(self) -> AbstractContextManager[RepositoryPass]:
        raise NotImplementedError

    def versions(self) -> Sequence[StoredVersion]:
        self.looked += 1
        if self.fails:
            raise RemoteError("the storage is away")
        return list(self.stored)

    def reading(self) -> AbstractContextManager[RepositoryReader]:
        return self._reading()

    @contextmanager
    def _reading(self) -> Iterator[RepositoryReader]:
        self.locks += 1
        self.opened += 1
        try:
            yield self.reader
        finally:
            self.locks -= 1


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Listener(Reporter):
    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.notes: list[str] = []

    def error(self, item: str, during: str, error: Exception | str) -> None:
        assert during == "mount"
        self.errors[item] = str(error)

    def note(self, text: str) -> None:
        self.notes.append(text)
