"""Removes many files under a lock that is asked for again and again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from cdr_plugin.errors import LockLostError, RemoteError
from cdr_plugin.reporter import Reporter
from cdr_restic.locks import RepositoryLock
from cdr_restic.storage import FileKind, Storage

_BATCH = 64
"""Removals between two questions to the storage whether our lock is still there."""
_THREADS = 4
"""Freeing 16 MiB takes a local file system 1 to 5 ms, a remote one a round trip."""


def remove_files(
    storage: Storage, lock: RepositoryLock, kind: FileKind, names: Sequence[str], reporter: Reporter | None = None
) -> int:
    """Remove these files; how many are gone. LockLostError stops it.

    RemoteError when one cannot be removed; with a ``reporter`` that is noted instead.
    """

    def remove(name: str) -> bool:
        lock.check()
        try:
            storage.remove(kind, name)
        except LockLostError:
            raise
        except RemoteError as error:
            if reporter is None:
                raise
            reporter.note(f"{error}; the next prune removes it")
            return False
        return True

    removed = 0
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="restic-remove") as executor:
        for begin in range(0, len(names), _BATCH):
            lock.confirm()
            removed += sum(executor.map(remove, names[begin : begin + _BATCH]))
    if names and kind is FileKind.INDEX:
        # An index file that came back after a loss of power would list packs that are removed next.
        storage.sync_removals(kind)
    return removed
