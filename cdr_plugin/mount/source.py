"""The repository below a mount: which versions it has now, and a reader that knows their blobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from cdr_plugin.contracts import Repository, RepositoryReader, StoredVersion
from cdr_plugin.errors import CdrError
from cdr_plugin.mount.layout import Directory, lay_out
from cdr_plugin.reporter import Reporter

LOOK_EVERY_S = 30.0
"""How often the repository is asked for new versions, at most, and only while somebody looks."""


class _Opened:
    """A reader with its lock, which stays open as long as somebody reads through it."""

    def __init__(self, repository: Repository) -> None:
        self._stack = ExitStack()
        self.reader = self._stack.enter_context(repository.reading())
        self.users = 0
        self.retired = False

    def close(self) -> None:
        self._stack.close()


class Source:
    """Holds a shared lock, so that nothing it shows is pruned. For any number of threads."""

    def __init__(
        self,
        repository: Repository,
        wanted: Callable[[StoredVersion], bool],
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wanted`` chooses versions. Takes the lock and loads the index: LockedError and others."""
        self._repository = repository
        self._wanted = wanted
        self._reporter = reporter
        self._clock = clock
        self._mutex = threading.Lock()
        self._looking = threading.Lock()
        self._ids: frozenset[str] = frozenset()
        self._root = Directory("/")
        self._opened = _Opened(repository)
        try:
            self._take(self._chosen())
        except BaseException:
            self._opened.close()
            raise
        self._next_look_s = clock() + LOOK_EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def root(self) -> Directory:
        """The folders above the versions, as of at most ``LOOK_EVERY_S`` ago."""
        if self._clock() >= self._next_look_s and self._looking.acquire(blocking=False):
            try:
                self._look()
            except CdrError as error:
                self._reporter.note(f"cannot look for new versions: {error}; showing those known before")
            finally:
                self._next_look_s = self._clock() + LOOK_EVERY_S
                self._looking.release()
        return self._root

    @contextmanager
    def reader(self) -> Iterator[RepositoryReader]:
        """A reader to be used inside the block; it knows every version that ``root`` has shown."""
        with self._mutex:
            opened = self._opened
            opened.users += 1
        try:
            yield opened.reader
        finally:
            with self._mutex:
                opened.users -= 1
                unused = opened.retired and not opened.users
            if unused:
                opened.close()

    def _look(self) -> None:
        versions = self._chosen()
        if not {version.id for version in versions} <= self._ids:
            # New versions may need blobs of index files that are new too.
            self._renew()
        self._take(versions)

    def _renew(self) -> None:
        """A new reader before the old one goes: never without a lock in between."""
        renewed = _Opened(self._repository)
        with self._mutex:
            old, self._opened = self._opened, renewed
            old.retired = True
            unused = not old.users
        if unused:
            old.close()

    def _chosen(self) -> Sequence[StoredVersion]:
        return [version for version in self._repository.versions() if self._wanted(version)]

    def _take(self, versions: Sequence[StoredVersion]) -> None:
        ids = frozenset(version.id for version in versions)
        if ids != self._ids or not self._root.entries:
            self._root = lay_out(versions)
            self._ids = ids
