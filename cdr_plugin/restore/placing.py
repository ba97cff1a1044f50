"""How an item takes its final name: made under a temporary one beside it, renamed when complete.

What a crash leaves behind is named ``.cdr-restore-<run>-<number>``; the next restore removes it
(``leftovers``). Nothing is fsynced, as in restic: a process may die at any moment, but after a power failure a restore
should be run again (with ``if-changed``, which only repairs).
"""

from __future__ import annotations

import os
import secrets
import stat
from enum import Enum, auto
from itertools import count

from cdr_plugin.restore.folders import Folder
from cdr_plugin.restore.options import Overwrite

TEMPORARY_PREFIX = b".cdr-restore-"


class Verdict(Enum):
    """What to do with an item, given what is at its place."""

    WRITE = auto()
    SKIP = auto()
    COMPARE = auto()
    """A regular file of the right size is there; its content decides."""


class Places:
    """Names in the target: which are free, and how to take them. Threads may share it."""

    def __init__(self, overwrite: Overwrite, *, delete: bool = False) -> None:
        self.overwrite = overwrite
        self._delete = delete
        self._prefix = TEMPORARY_PREFIX + secrets.token_hex(4).encode() + b"-"
        self._numbers = count()

    def temporary(self) -> bytes:
        return self._prefix + b"%x" % next(self._numbers)

    def existing(self, dir_fd: int, name: bytes) -> os.stat_result | None:
        """What is at the place."""
        try:
            return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def decide(self, found: os.stat_result | None, mtime_ns: int, size: int | None) -> Verdict:
        """``size``: of a regular file to be restored, else None. OSError when a folder is there; a
        restore that deletes removes it before it writes."""
        if found is None:
            return Verdict.WRITE
        if stat.S_ISDIR(found.st_mode) and not self._delete:
            raise IsADirectoryError("exists in the target and is a folder; move it away to restore this one")
        if self.overwrite is Overwrite.NEVER:
            return Verdict.SKIP
        if self.overwrite is Overwrite.IF_NEWER:
            return Verdict.WRITE if mtime_ns > found.st_mtime_ns else Verdict.SKIP
        # A file with several names is replaced, never mended: the other names are not ours.
        same_shape = stat.S_ISREG(found.st_mode) and found.st_size == size and found.st_nlink == 1
        return Verdict.COMPARE if same_shape else Verdict.WRITE

    def keeps(self, folder: Folder) -> bool:
        """Must what is at a place in this folder stay?"""
        return self.overwrite is Overwrite.NEVER and not folder.fresh

    def take(self, dir_fd: int, folder: Folder, temporary: bytes, name: bytes) -> None:
        """Give the complete item its name; OSError, and then the temporary one is gone too."""
        try:
            # Looked at again: hours may have passed since the decision.
            if self.keeps(folder) and self.existing(dir_fd, name) is not None:
                raise appeared()
            os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except OSError:
            discard(dir_fd, temporary)
            raise

    def link(self, source_fd: int, source: bytes, dir_fd: int, folder: Folder, name: bytes) -> None:
        """Make ``name`` another name of the file ``source``; OSError."""
        temporary = self.temporary()
        os.link(source, temporary, src_dir_fd=source_fd, dst_dir_fd=dir_fd, follow_symlinks=False)
        self.take(dir_fd, folder, temporary, name)
        if not folder.fresh:
            # Renaming one name of a file onto another one of the same file does nothing.
            discard(dir_fd, temporary)


def appeared() -> FileExistsError:
    """Why an item does not take a name that was free when that was decided."""
    return FileExistsError("appeared in the target during the restore; kept")


def discard(dir_fd: int, temporary: bytes) -> None:
    """Remove a temporary name that is not wanted any more; no error when it is gone."""
    try:
        os.unlink(temporary, dir_fd=dir_fd)
    except OSError:
        pass
