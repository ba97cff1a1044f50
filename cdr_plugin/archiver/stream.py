"""One file whose content comes through a pipe: ``restic backup --stdin``.

The tree is restic's: the file and the folders above it bear the time of the run and the numbers of the
user who runs it, no names, no inode.
"""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from collections.abc import Callable, Iterator

from cdr_plugin.archiver.mapped import clean
from cdr_plugin.archiver.metadata import Accounts
from cdr_plugin.archiver.walk import Folder
from cdr_plugin.errors import NotConvenientError, UserError
from cdr_plugin.kernel import STAT_RECORD

_FILE_MODE = stat.S_IFREG | 0o644
_FOLDER_MODE = stat.S_IFDIR | 0o755

_PATIENCE_MS = 200
"""How long a reader waits for a silent pipe before it asks whether the run still wants the bytes."""


class Stream:
    """What ``descriptor`` gives until its end, as the file ``name`` (folders in it are made).

    ``finish`` is called when all has been read; it raises UserError when that is not the whole.
    """

    def __init__(
        self, name: str, descriptor: int, mtime_ns: int, finish: Callable[[], None] = lambda: None
    ) -> None:
        self.path = clean(b"/" + os.fsencode(name))
        if self.path == b"/":
            raise UserError(f"{name!r} cannot be the name of a file; give another one with --stdin-filename")
        self._descriptor = descriptor
        self._mtime_ns = mtime_ns
        self._finish = finish
        self._begun = False
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def read(self, buffer: memoryview, stop: threading.Event) -> int:
        """Bytes read into ``buffer``; 0 at the end, and soon after ``stop`` is set. UserError."""
        while not stop.is_set():
            if not self._poll.poll(_PATIENCE_MS):
                continue
            try:
                return os.readv(self._descriptor, [buffer])
            except BlockingIOError:
                continue
            except OSError as error:
                raise UserError(f"{os.fsdecode(self.path)}: standard input: {error.strerror}") from None
        return 0

    def finish(self, size: int) -> None:
        """All ``size`` bytes have been read. UserError when they are not the whole, or none."""
        self._finish()
        if not size:
            raise UserError(f"{os.fsdecode(self.path)}: no data came; no version was made")

    def folders(self) -> Iterator[Folder]:
        """The folder of the file and those above it, as a walk would give them. Only once: NotConvenientError
        when a run is to start over, since what has come through a pipe does not come again."""
        if self._begun:
            raise NotConvenientError(f"{os.fsdecode(self.path)}: a stream cannot be read twice; run the backup again")
        self._begun = True
        components = self.path[1:].split(b"/")
        folders: list[Folder] = []
        for depth, name in enumerate(components):
            mode = _FILE_MODE if depth == len(components) - 1 else _FOLDER_MODE
            folders.append(self._folder(b"/".join(components[:depth]), folders[-1] if folders else None, name, mode))
        folders[-1].stream = self
        yield from reversed(folders)

    def _folder(self, key: bytes, parent: Folder | None, name: bytes, mode: int) -> Folder:
        shown = b"/%b/%b" % (key, name) if key else b"/" + name
        return Folder(
            key=key,
            path=b"",
            shown=b"/" + key,
            parent=parent,
            names=[name],
            stats=self._record(mode),
            scanned_ns=time.time_ns(),
            paths={name: (b"", shown)},
        )

    def _record(self, mode: int) -> bytes:
        seconds, nanoseconds = divmod(self._mtime_ns, 10**9)
        times = seconds, seconds, nanoseconds, nanoseconds
        return STAT_RECORD.pack(mode, 0, os.getuid(), os.getgid(), 0, 0, 0, 0, *times)


class Nameless(Accounts):
    """Accounts of a stream: numbers only, as restic has it."""

    def user(self, uid: int) -> str:
        return ""

    def group(self, gid: int) -> str:
        return ""
