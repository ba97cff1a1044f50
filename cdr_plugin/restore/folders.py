"""Folders of the target, reached only through descriptors of their parents.

No path is ever resolved by the kernel: each component is opened alone with ``O_NOFOLLOW``, so a
symbolic link planted inside the target cannot lead a restore out of it.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from types import TracebackType
from typing import Self

from cdr_plugin.errors import UserError

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_OPEN_FOLDERS = 128
"""A walk in order needs one per level; the rest saves reopening when packs jump between folders."""

DEFAULT_ACL = "system.posix_acl_default"


class Folder:
    """One folder of the version. ``fresh``: we made it, so nothing of others is inside.
    ``inherits``: the kernel gives new entries an ACL that we must take off again."""

    __slots__ = ("depth", "fresh", "inherits", "name", "parent", "ready")

    def __init__(self, parent: Folder | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.depth: int = parent.depth + 1 if parent else 0
        self.ready = parent is None
        self.fresh = False
        self.inherits = False

    def path(self) -> bytes:
        """The path inside the version; ends in a slash."""
        names: list[bytes] = []
        folder = self
        while folder.parent is not None:
            names.append(folder.name)
            folder = folder.parent
        return b"/" + b"".join(name + b"/" for name in reversed(names))


class Folders:
    """Opens folders, and keeps a bounded number of them open."""

    def __init__(self, target: os.PathLike[str], limit: int = MAX_OPEN_FOLDERS) -> None:
        """Create ``target`` with its parents unless it exists; UserError when it cannot be used."""
        self._limit = limit
        self._open: OrderedDict[Folder, int] = OrderedDict()
        self.root = Folder(None, b"")
        try:
            os.makedirs(target, mode=0o700, exist_ok=True)
            # The target itself is the user's choice and may be a link; nothing below it may.
            self._root_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"cannot restore to {os.fspath(target)}: {error.strerror}; choose another target") from None
        self.root.inherits = _has_default_acl(self._root_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        os.close(self._root_fd)

    def fd(self, folder: Folder) -> int:
        """A descriptor of an existing folder, good until the next call; OSError."""
        if folder.parent is None:
            return self._root_fd
        fd = self._open.get(folder)
        if fd is None:
            return self._reopen(folder)
        self._open.move_to_end(folder)
        return fd

    def _reopen(self, folder: Folder) -> int:
        """Open from the nearest ancestor that is open; a loop, since trees may be deep."""
        missing = [folder]
        above = folder.parent
        while above is not None and above.parent is not None and above not in self._open:
            missing.append(above)
            above = above.parent
        fd = self._root_fd if above is None or above.parent is None else self._open[above]
        for step in reversed(missing):
            fd = self._keep(step, os.open(step.name, _OPEN_FOLDER, dir_fd=fd))
        return fd

    def _keep(self, folder: Folder, fd: int) -> int:
        self._open[folder] = fd
        if len(self._open) > self._limit:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def make(self, folder: Folder) -> None:
        """Make sure that a folder exists, whose parent does; OSError names the reason.

        A new one is 0700 until its metadata is applied, so that nobody looks in before.
        """
        assert folder.parent is not None
        parent_fd = self.fd(folder.parent)
        try:
            os.mkdir(folder.name, 0o700, dir_fd=parent_fd)
            folder.fresh = True
            folder.inherits = folder.parent.inherits
        except FileExistsError:
            self._adopt(folder, parent_fd)
        folder.ready = True

    def _adopt(self, folder: Folder, parent_fd: int) -> None:
        try:
            fd = self._keep(folder, os.open(folder.name, _OPEN_FOLDER, dir_fd=parent_fd))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise NotADirectoryError(
                    errno.ENOTDIR,
                    "exists in the target and is not a folder; move it away to restore this one",
                ) from None
            raise
        folder.inherits = _has_default_acl(fd)

    def forget(self, folder: Folder) -> None:
        """Close the descriptor of a folder that is finished."""
        fd = self._open.pop(folder, None)
        if fd is not None:
            os.close(fd)


def _has_default_acl(fd: int) -> bool:
    try:
        return DEFAULT_ACL in os.listxattr(fd)
    except OSError:
        return False
