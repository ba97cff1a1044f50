"""Removes locks that nobody holds any more."""

from __future__ import annotations

import time

from cdr_plugin.errors import CdrError
from cdr_plugin.reporter import Reporter
from cdr_restic.files import SealedFiles
from cdr_restic.lock_files import is_stale, load_lock
from cdr_restic.storage import FileKind


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
