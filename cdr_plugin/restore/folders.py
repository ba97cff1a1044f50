"""Folders of the target, reached only through descriptors of their parents.

No path is ever resolved by the kernel: each component is opened alone with ``O_NOFOLLOW``, so a
symbolic link planted inside the target cannot lead a restore out of it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
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

    def __init__(
        self,
        target: os.PathLike[str],
        limit: int = MAX_OPEN_FOLDERS,
        *,
        replace_others: bool = False,
        dry_run: bool = False,
    ) -> None:
        """Create ``target`` with its parents unless it exists; UserError when it cannot be used.

        ``replace_others``: what is no folder makes room for one. With ``dry_run`` nothing is made or
        changed; a folder that would be made is ``fresh`` and has no descriptor.
        """
        self._limit = limit
        self._replace_others = replace_others
        self._dry_run = dry_run
        self._open: OrderedDict[Folder, int] = OrderedDict()
        self.root = Folder(None, b"")
        self._root_fd = -1
        try:
            if dry_run and not os.path.lexists(target):
                self.root.fresh = True
                return
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
        if self._root_fd >= 0:
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
        if self._dry_run and folder.parent.fresh:
            folder.fresh = folder.ready = True
            return
        parent_fd = self.fd(folder.parent)
        try:
            self._adopt(folder, parent_fd)
        except FileNotFoundError:
            self._make_new(folder, parent_fd)
        except NotADirectoryError:
            if not self._replace_others:
                raise
            if not self._dry_run:
                os.unlink(folder.name, dir_fd=parent_fd)
            self._make_new(folder, parent_fd)
        folder.ready = True

    def _make_new(self, folder: Folder, parent_fd: int) -> None:
        assert folder.parent is not None
        if not self._dry_run:
            os.mkdir(folder.name, 0o700, dir_fd=parent_fd)
        folder.fresh = True
        folder.inherits = folder.parent.inherits

    def _adopt(self, folder: Folder, parent_fd: int) -> None:
        """Use a folder that exists. FileNotFoundError, NotADirectoryError."""
        assert folder.parent is not None
        if folder.parent.fresh and not self._dry_run:
            raise FileNotFoundError  # nothing of others is in a folder that we made
        try:
            fd = self._keep(folder, self._open_usable(folder.name, parent_fd))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise NotADirectoryError(
                    errno.ENOTDIR,
                    "exists in the target and is not a folder; move it away to restore this one",
                ) from None
            raise
        folder.inherits = _has_default_acl(fd)

    def _open_usable(self, name: bytes, parent_fd: int) -> int:
        """Open an existing folder; if it is ours and we may not write to it, we may from now on, until
        the version's mode is applied to it."""
        if self._dry_run or os.geteuid() == 0:
            return os.open(name, _OPEN_FOLDER, dir_fd=parent_fd)
        found = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o700 != 0o700:
            _let_owner_in(name, parent_fd, stat.S_IMODE(found.st_mode) | 0o700)
        return os.open(name, _OPEN_FOLDER, dir_fd=parent_fd)

    def ignores_case(self, folder: Folder) -> bool:
        """Do names that differ only in case mean the same file in this folder?"""
        if self._dry_run:
            return False
        fd = self.fd(folder)
        name = f".cdr-restore-{secrets.token_hex(4)}-ca5e"
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd))
        try:
            os.stat(name.upper(), dir_fd=fd, follow_symlinks=False)
            return True
        except FileNotFoundError:
            return False
        finally:
            os.unlink(name, dir_fd=fd)

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


def _let_owner_in(name: bytes, parent_fd: int, mode: int) -> None:
    # A path of /proc, since a folder that we may not read cannot be opened for fchmod.
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        os.chmod(b"/proc/self/fd/%d" % fd, mode)
    finally:
        os.close(fd)
