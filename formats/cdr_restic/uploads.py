"""Writes finished packs in the background, so that syncing overlaps with sealing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import NamedTuple

from cdr_restic.journal import Journal
from cdr_restic.packs import PackBuilder, PackEntry
from cdr_restic.storage import FileKind, Storage

_THREADS = 2
"""While one pack waits for the disk, the next is hashed."""
MAX_WAITING = 3
"""Packs handed over and not yet stored; with the two being filled, five buffers in all."""


class StoredPack(NamedTuple):
    """A durable pack: its number in the index in memory, name (hex) and blobs."""

    number: int
    name: str
    entries: list[PackEntry]


class PackUploads:
    """A bounded queue of packs. The first failure ends it: every later call raises that error."""

    def __init__(self, storage: Storage, journal: Journal, check: Callable[[], None], waiting: int) -> None:
        self._storage = storage
        self._journal = journal
        self._check = check
        self._waiting = waiting
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="restic-pack")
        self._running: deque[Future[StoredPack]] = deque()
        self._free: list[bytearray] = []
        self._error: BaseException | None = None

    def buffer(self) -> bytearray:
        """A buffer to fill; its old bytes mean nothing."""
        return self._free.pop() if self._free else bytearray()

    def submit(self, pack: PackBuilder) -> list[StoredPack]:
        """Hand a pack over; waits while too many are under way. Those stored meanwhile."""
        self.raise_failure()
        view = pack.finish()
        self._running.append(self._executor.submit(self._store, pack, view))
        return self._collect(self._waiting)

    def drain(self) -> list[StoredPack]:
        """Wait for all; those stored meanwhile."""
        self.raise_failure()
        return self._collect(0)

    def fail(self, error: BaseException) -> None:
        """Refuse everything from now on, with ``error``, unless something failed before."""
        self._error = self._error or error

    def raise_failure(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait for what is under way, whatever becomes of it."""
        self._executor.shutdown(cancel_futures=True)

    def _collect(self, allowed: int) -> list[StoredPack]:
        stored = []
        while self._running and (len(self._running) > allowed or self._running[0].done()):
            stored.append(self._running.popleft().result())
        return stored

    def _store(self, pack: PackBuilder, view: memoryview) -> StoredPack:
        try:
            with view:
                name = sha256(view).hexdigest()
                self._journal.note_pack(name)
                self._check()
                self._storage.save(FileKind.DATA, name, view)
        except BaseException as error:
            self.fail(error)
            raise
        self._free.append(pack.buffer)
        return StoredPack(pack.number, name, pack.entries)
