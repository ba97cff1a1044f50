"""What this tier is about to store in a repository, so that a crash leaves nothing behind.

One text file per repository in the tier's state: lines ``pack <name>`` and ``lock <name>``, synced
before the file itself gets its final name, and ``indexed`` when all packs above it are. It is a
hint: without it, packs of a crashed pass merely stay unindexed until restic prunes them, and its
lock until ``restic unlock``.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

from cdr_plugin.errors import LockedError
from cdr_restic.storage import storage_error

_MAX_BYTES = 64 * 1024 * 1024
_LINE = re.compile(r"^(pack|lock) ([0-9a-f]{64})$", re.MULTILINE)
_INDEXED = "indexed\n"


class Journal:
    """The journal of one pass; without a state folder it remembers nothing.

    Held by one process at a time (LockedError), so that whatever it names when opened belongs to
    a pass that is over. May be used by several threads.
    """

    def __init__(self, state: Path | None, repository_id: str) -> None:
        self._path = state / f"restic-{repository_id[:16]}.journal" if state else None
        self._mutex = Lock()
        self._descriptor = -1
        self.packs: Sequence[str] = ()
        self.locks: Sequence[str] = ()

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._open(self._path)
            except OSError as error:
                self._close()
                raise storage_error(error, f"cannot open {self._path}") from None
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _open(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"another process is writing to this repository (it holds {path}); try again later"
            ) from None
        text = os.pread(self._descriptor, _MAX_BYTES, 0).decode("ascii", "replace")
        pending = _LINE.findall(text[text.rfind(_INDEXED) + 1 :])
        self.packs = tuple(dict.fromkeys(name for kind, name in pending if kind == "pack"))
        self.locks = tuple(dict.fromkeys(name for kind, name in _LINE.findall(text) if kind == "lock"))
        # A line that a crash cut short must not swallow the next one.
        if text and not text.endswith("\n"):
            os.write(self._descriptor, b"\n")

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def note_pack(self, name: str) -> None:
        """Remember a pack; returns when that is durable."""
        self._append(f"pack {name}\n")

    def note_lock(self, name: str) -> None:
        """Remember our lock of the repository; returns when that is durable."""
        self._append(f"lock {name}\n")

    def note_indexed(self) -> None:
        """All packs so far are indexed, or given up."""
        self._append(_INDEXED)

    def forget_locks(self) -> None:
        """``locks`` are removed. The file starts anew unless packs are pending: only here, before
        a pass has noted anything, can nothing be lost by that."""
        if self._descriptor < 0 or self.packs:
            return
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            raise storage_error(error, f"cannot write {self._path}") from None

    def _append(self, line: str) -> None:
        if self._descriptor < 0:
            return
        with self._mutex:
            try:
                os.write(self._descriptor, line.encode("ascii"))
                os.fsync(self._descriptor)
            except OSError as error:
                raise storage_error(error, f"cannot write {self._path}") from None
