"""Locks of a repository, shared with restic: shared ones for reading and writing, exclusive ones for removing.

Acquiring: look for conflicts, write our lock, wait 200 ms, look again. Refreshing, every five
minutes: write a new lock, remove the old one. Without a refresh for 22.5 minutes, or when
somebody removed our lock, it is lost, and so is the right to write.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Self

import msgspec

from cdr_plugin.errors import (
    CdrError,
    FormatError,
    IntegrityError,
    LockedError,
    LockLostError,
    NotFoundError,
    RemoteError,
)
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import go_json
from cdr_plugin.reporter import Reporter
from cdr_restic.files import SealedFiles
from cdr_restic.hangup import hangup_ignored
from cdr_restic.host import host_name, now_text, user_name
from cdr_restic.storage import FileKind

STALE_S = 30 * 60
"""From this age on ``restic unlock`` removes a lock."""
MAX_PAUSE_S = 60
"""Between two attempts to get a lock."""


def awake_or_asleep_s() -> float:
    """A clock that goes on while the machine sleeps, unlike ``time.monotonic`` on Linux."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class LockTimes:
    """In seconds; restic's."""

    settle_s: float = 0.2
    refresh_s: float = 5 * 60
    retry_s: float = 30
    lost_s: float = 22.5 * 60
    again_s: float = 5
    """Before the first new attempt; doubled up to a minute."""
    clock: Callable[[], float] = awake_or_asleep_s


class LockFile(msgspec.Struct, omit_defaults=True):
    """A lock, field for field."""

    time: str
    exclusive: bool
    hostname: str = ""
    username: str = ""
    pid: int = 0
    uid: int = 0
    gid: int = 0


_decoder = msgspec.json.Decoder(LockFile)


def parse_lock(data: Buffer) -> LockFile:
    """FormatError."""
    try:
        lock = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"lock: {error}") from None
    parse_time(lock.time)
    return lock


def our_lock(*, exclusive: bool = False) -> bytes:
    lock = LockFile(now_text(), exclusive, host_name(), user_name(), os.getpid(), os.getuid(), os.getgid())
    return go_json(msgspec.json.encode(lock))


def is_stale(lock: LockFile, now_s: float) -> bool:
    """Whether ``restic unlock`` would remove it: old, or its process on this machine is gone."""
    if now_s - parse_time(lock.time)[0] > STALE_S:
        return True
    return lock.hostname == host_name() and not _is_running(lock.pid)


def _is_running(pid: int) -> bool:
    if not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def conflict_text(location: str, lock: LockFile, now_s: float) -> str:
    """Who holds the repository, since when, and what to do about it."""
    age = timedelta(seconds=max(int(now_s - parse_time(lock.time)[0]), 0))
    holder = f"{_shown(lock.username)}@{_shown(lock.hostname)} (process {lock.pid})"
    advice = (
        "the lock is stale, remove it with 'restic unlock'"
        if is_stale(lock, now_s)
        else "try again when that process is done"
    )
    how = "locked exclusively" if lock.exclusive else "in use"
    return f"repository {location} is {how} by {holder} since {lock.time} ({age} ago); {advice}"


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:64]) or "?"


class RepositoryLock(AbstractContextManager["RepositoryLock"]):
    """Our lock while the ``with`` block lasts, refreshed by a thread of its own.

    An exclusive one tolerates no other, a shared one no exclusive one. ``note`` is told the name of
    each lock before it is written. LockedError on entering, once ``retry_s`` seconds are over.
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
        self._lost = ""
        self._refreshed_s = 0.0
        self._hangup = hangup_ignored()
        self._thread = Thread(target=self._keep_fresh, name="restic-lock", daemon=True)

    def __enter__(self) -> Self:
        self._hangup.__enter__()
        try:
            self._acquire()
        except BaseException:
            self._leave()
            raise
        self._thread.start()
        return self

    def _acquire(self) -> None:
        deadline_s = self._times.clock() + self._retry_s
        pause_s = self._times.again_s
        while True:
            try:
                return self._try()
            except LockedError as error:
                left_s = deadline_s - self._times.clock()
                if left_s <= 0:
                    raise
                self._reporter.note(f"{error}; trying for another {int(left_s)} seconds")
                time.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _try(self) -> None:
        self._refuse_conflicts()
        self._write()
        try:
            time.sleep(self._times.settle_s)
            self._refuse_conflicts()
        except BaseException:
            self._remove(self._name)
            self._name = ""
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._leave()

    def _leave(self) -> None:
        self._remove(self._name)
        self._hangup.__exit__(None, None, None)

    def check(self) -> None:
        """LockLostError when we may write no more. Cheap: asks no storage."""
        silent_s = self._times.clock() - self._refreshed_s
        if not self._lost and silent_s > self._times.lost_s:
            self._lost = f"was not refreshed for {int(silent_s) // 60} minutes"
        if self._lost:
            raise LockLostError(
                f"our lock on repository {self._storage.location} {self._lost}; "
                "nothing more is written in this pass, the next one continues"
            )

    def confirm(self) -> None:
        """``check``, and ask the storage whether our lock is there; refresh when it is time."""
        with self._mutex:
            self.check()
            if not self._storage.exists(FileKind.LOCKS, self._name):
                self._lost = "was removed by somebody"
            self.check()
            if self._times.clock() - self._refreshed_s >= self._times.refresh_s:
                self._replace()

    def _replace(self) -> None:
        old = self._name
        self._write()
        self._storage.remove(FileKind.LOCKS, old)

    def _write(self) -> None:
        began_s = self._times.clock()
        name, sealed = self._files.seal(our_lock(exclusive=self._exclusive))
        self._note(name)
        # Named before it is written: whatever happens now, leaving the block removes it.
        previous, self._name = self._name, name
        try:
            self._storage.save(FileKind.LOCKS, name, sealed)
        except BaseException:
            self._remove(name)
            self._name = previous
            raise
        self._refreshed_s = began_s

    def _remove(self, name: str) -> None:
        if not name:
            return
        try:
            self._storage.remove(FileKind.LOCKS, name)
        except CdrError as error:
            self._reporter.note(f"our lock stays behind, 'restic unlock' removes it: {error}")

    def _keep_fresh(self) -> None:
        pause_s = self._times.refresh_s
        while not self._stopped.wait(pause_s):
            try:
                self.confirm()
                pause_s = self._times.refresh_s
            except LockLostError:
                return
            except RemoteError as error:
                self._reporter.note(f"refreshing our lock failed, trying again: {error}")
                pause_s = self._times.retry_s

    def _refuse_conflicts(self) -> None:
        for name in self._storage.list(FileKind.LOCKS):
            if name == self._name:
                continue
            lock = self._load(name)
            if lock is not None and (lock.exclusive or self._exclusive):
                raise LockedError(conflict_text(self._storage.location, lock, time.time()))

    def _load(self, name: str) -> LockFile | None:
        """None for a lock that is gone by now, or empty (an interrupted write, says restic)."""
        try:
            if self._storage.size(FileKind.LOCKS, name) == 0:
                return None
            return parse_lock(self._files.load(FileKind.LOCKS, name))
        except NotFoundError:
            return None
        except IntegrityError as error:
            raise LockedError(
                f"repository {self._storage.location}: lock {name[:10]} cannot be read ({error}); "
                "if nobody is using the repository, remove it with 'restic unlock --remove-all'"
            ) from None
