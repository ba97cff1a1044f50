"""Locks of a repository, shared with restic: shared ones for reading and writing, exclusive ones for removing.

Acquiring: look for conflicts, write our lock, wait 200 ms, look again. Refreshing, every five
minutes: write a new lock, remove the old one. When somebody removed our lock it is lost, and so
is the right to write. After 22.5 minutes without a refresh, as on a machine that slept, there is one
last attempt, for which every writer waits: only if our old lock is there before, and still there
200 ms after its replacement was written, nobody can have relied on its absence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Self

from cdr_plugin.errors import (
    CdrError,
    IntegrityError,
    LockedError,
    LockLostError,
    NotFoundError,
    RemoteError,
)
from cdr_plugin.reporter import Reporter
from cdr_restic.files import SealedFiles
from cdr_restic.hangup import hangup_ignored
from cdr_restic.lock_files import conflict_text, load_lock, our_lock
from cdr_restic.storage import FileKind

MAX_PAUSE_S = 60
"""Between two attempts to get a lock."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def awake_or_asleep_s() -> float:
    """A clock that goes on while the machine sleeps, unlike ``time.monotonic`` on Linux."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class LockTimes:
    """In seconds; restic's."""

    settle_s: float = 0.2
    refresh_s: float = 5 * 60
    look_s: float = 30
    """How often it is asked whether a refresh is due, also after one that failed: a pause of five
    minutes would last longer where the machine sleeps meanwhile."""
    lost_s: float = 22.5 * 60
    again_s: float = 5
    """Before the first new attempt; doubled up to a minute."""
    unreadable_s: tuple[float, ...] = (5, 10, 20)
    """Before each new look at locks that could not be read."""
    clock: Callable[[], float] = awake_or_asleep_s
    pause: Callable[[float], None] = time.sleep


class RepositoryLock(AbstractContextManager["RepositoryLock"]):
    """Our lock while the ``with`` block lasts, refreshed by a thread of its own.

    An exclusive one tolerates no other, a shared one no exclusive one. ``note`` is told the name of
    each lock before it is written. LockedError on entering, once ``retry_s`` seconds are over.
    ``check`` and ``confirm`` may be called by any thread.
    """

    def __init__(
        self,
        files: SealedFiles,
        note: Callable[[str], None],
        reporter: Reporter,
        times: LockTimes,
        *,
        exclusive: bool = False,
        retry_s: float = 0,
    ) -> None:
        self._exclusive = exclusive
        self._retry_s = retry_s
        self._files = files
        self._storage = files.storage
        self._note = note
        self._reporter = reporter
        self._times = times
        self._mutex = RLock()
        self._stopped = Event()
        self._name = ""
        self._written: set[str] = set()
        """Locks of ours that are, or may be, in the storage; leaving the block removes them."""
        self._lost = ""
        self._refreshed_s = 0.0
        self._hangup = hangup_ignored()
        self._thread = Thread(target=self._keep_fresh, name="restic-lock", daemon=True)

    def __enter__(self) -> Self:
        self._hangup.__enter__()
        try:
            self._acquire()
            self._thread.start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._leave()

    def _leave(self) -> None:
        self._remove_all()
        self._hangup.__exit__(None, None, None)

    def check(self) -> None:
        """LockLostError when we may write no more. Cheap: asks no storage, unless a last attempt
        to refresh is due."""
        if self._silent_s() > self._times.lost_s:
            self._attempt_last_refresh()
        if self._lost:
            raise LockLostError(
                f"our lock on repository {self._storage.location} {self._lost}; "
                "nothing more is written in this pass, the next one continues"
            )

    def confirm(self) -> None:
        """``check``, and ask the storage whether our lock is there; refresh when it is time."""
        with self._mutex:
            self.check()
            self._require(self._name)
            if self._silent_s() >= self._times.refresh_s:
                self._replace()

    # --- acquiring --------------------------------------------------------------------------

    def _acquire(self) -> None:
        deadline_s = self._times.clock() + self._retry_s
        pause_s = self._times.again_s
        told = False
        while True:
            try:
                return self._try()
            except LockedError as error:
                left_s = deadline_s - self._times.clock()
                if left_s <= 0:
                    raise
                if not told:
                    self._reporter.note(f"{error}; trying again for {int(left_s)} seconds")
                told = True
                self._times.pause(min(pause_s, left_s))
                pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _try(self) -> None:
        harmless: set[str] = set()
        self._refuse_conflicts(harmless)
        began_s = self._times.clock()
        try:
            self._name = self._write()
            self._times.pause(self._times.settle_s)
            self._refuse_conflicts(harmless)
        except BaseException:
            self._remove_all()
            raise
        self._refreshed_s = began_s

    def _refuse_conflicts(self, harmless: set[str]) -> None:
        """LockedError for a conflict, at once; for locks that cannot be read, after some more looks."""
        for pause_s in self._times.unreadable_s:
            try:
                return self._look(harmless)
            except IntegrityError as error:
                self._reporter.note(f"{error}; looking again in {pause_s:g} seconds")
                self._times.pause(pause_s)
        try:
            self._look(harmless)
        except IntegrityError as error:
            raise LockedError(
                f"{error}; if nobody is using the repository, remove it with 'cdr unlock --remove-all'"
            ) from None

    def _look(self, harmless: set[str]) -> None:
        """Adds what was read, and need not be read again, to ``harmless``. A lock that is gone may
        have been refreshed since it was listed: then its successor is listed now."""
        gone: set[str] = set()
        before = -1
        while len(gone) > before:
            before = len(gone)
            for name in self._storage.list(FileKind.LOCKS):
                if name in harmless or name in self._written:
                    continue
                try:
                    self._refuse_conflict(name)
                    harmless.add(name)
                except NotFoundError:
                    gone.add(name)

    def _refuse_conflict(self, name: str) -> None:
        lock = load_lock(self._files, name)
        if lock is not None and (lock.exclusive or self._exclusive):
            raise LockedError(conflict_text(self._storage.location, lock, time.time()))

    # --- keeping ----------------------------------------------------------------------------

    def _silent_s(self) -> float:
        return self._times.clock() - self._refreshed_s

    def _keep_fresh(self) -> None:
        pause_s = min(self._times.look_s, self._times.refresh_s)
        while not self._stopped.wait(pause_s):
            try:
                if self._silent_s() >= self._times.refresh_s:
                    self.confirm()
            except LockLostError as error:
                self._reporter.note(str(error))
                return
            except RemoteError as error:
                self._reporter.note(f"refreshing our lock failed, trying again: {error}")

    def _attempt_last_refresh(self) -> None:
        with self._mutex:
            silent_s = self._silent_s()
            if self._lost or silent_s <= self._times.lost_s:
                return
            try:
                self._replace(self._times.settle_s)
            except LockLostError:
                return
            except RemoteError as error:
                self._lost = f"was not refreshed for {int(silent_s) // 60} minutes ({error})"

    def _replace(self, settle_s: float = 0) -> None:
        """LockLostError, and no replacement, unless the old lock outlived the writing of the new one."""
        began_s = self._times.clock()
        old = self._name
        self._require(old)
        new = self._write()
        try:
            self._times.pause(settle_s)
            self._require(old)
        except BaseException:
            self._remove(new)
            raise
        self._name, self._refreshed_s = new, began_s
        self._remove(old)

    def _require(self, name: str) -> None:
        if not self._lost and not self._storage.exists(FileKind.LOCKS, name):
            self._lost = "was removed by somebody"
        if self._lost:
            self.check()

    def _write(self) -> str:
        name, sealed = self._files.seal(our_lock(exclusive=self._exclusive))
        self._note(name)
        # Known before it is written: whatever happens now, leaving the block removes it.
        self._written.add(name)
        try:
            self._storage.save(FileKind.LOCKS, name, sealed)
        except BaseException:
            self._remove(name)
            raise
        return name

    def _remove_all(self) -> None:
        for name in tuple(self._written):
            self._remove(name)

    def _remove(self, name: str) -> None:
        try:
            self._storage.remove(FileKind.LOCKS, name)
            self._written.discard(name)
        except CdrError as error:
            self._reporter.note(f"our lock stays behind, 'cdr unlock' removes it: {error}")


class NoLock(RepositoryLock):
    """In place of a lock where the user wants none: for looking only. Nothing is ever lost."""

    def __init__(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def check(self) -> None:
        """Never raises."""

    def confirm(self) -> None:
        """Never raises."""
