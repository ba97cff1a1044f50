"""Lists locks, and removes those that nobody holds any more."""

from __future__ import annotations

import time

from cdr_plugin.care import LockInfo
from cdr_plugin.errors import CdrError, NotFoundError
from cdr_plugin.reporter import Reporter
from cdr_restic.files import SealedFiles
from cdr_restic.lock_files import conflict_text, is_stale, load_lock
from cdr_restic.storage import FileKind


def list_locks(files: SealedFiles) -> list[LockInfo]:
    """All locks; one that cannot be read counts as held, since nobody knows."""
    found = []
    for name in sorted(files.storage.list(FileKind.LOCKS)):
        try:
            lock = load_lock(files, name)
        except NotFoundError:
            continue  # given back meanwhile
        except CdrError as error:
            found.append(LockInfo(name, f"{error}; 'cdr unlock --remove-all' removes it", True, False))
            continue
        if lock is not None:
            now_s = time.time()
            text = conflict_text(files.storage.location, lock, now_s)
            found.append(LockInfo(name, text, lock.exclusive, is_stale(lock, now_s)))
    return found


def unlock(files: SealedFiles, reporter: Reporter, *, all_locks: bool) -> int:
    """Remove stale locks; how many.

    As in restic: a lock is stale when it is older than 30 minutes, or its process was one of this
    machine and is gone; one that cannot be read, or is empty, stays. ``all_locks`` removes every
    one, also those of working processes.
    """
    removed = 0
    for name in tuple(files.storage.list(FileKind.LOCKS)):
        if all_locks or _is_stale(files, name, reporter):
            files.storage.remove(FileKind.LOCKS, name)
            removed += 1
    return removed


def _is_stale(files: SealedFiles, name: str, reporter: Reporter) -> bool:
    if not files.storage.exists(FileKind.LOCKS, name):
        return False
    try:
        lock = load_lock(files, name)
    except CdrError as error:
        reporter.note(f"{error}; it is left alone, 'cdr unlock --remove-all' removes it")
        return False
    return lock is not None and is_stale(lock, time.time())
