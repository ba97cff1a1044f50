"""Removes what a target holds beside the version: never outside of it, never what a pattern protects.

Everything is reached through descriptors of folders, so that no symbolic link is followed; what is
mounted inside, be it another file system or a folder of the same one, is left alone.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path

from cdr_plugin.restore.folders import Folder, Folders
from cdr_plugin.restore.selection import Selection
from cdr_plugin.restore.tally import Tally


class _Emptying:
    """A folder in the middle of being emptied; ``names`` are still to go, ``kept`` says that not all may."""

    __slots__ = ("folder", "kept", "mount", "names")

    def __init__(self, folder: Folder, mount: tuple[int, bytes], names: list[bytes]) -> None:
        self.folder = folder
        self.mount = mount
        self.names = names
        self.kept = False


class Remover:
    """Removes entries one by one, so that each is reported. With ``dry_run`` it only reports."""

    def __init__(
        self, folders: Folders, selection: Selection, tally: Tally, *, protect: Sequence[Path], dry_run: bool
    ) -> None:
        self._folders = folders
        self._selection = selection
        self._tally = tally
        self._protected = {(found.st_dev, found.st_ino) for found in map(_stat, protect) if found}
        self._dry_run = dry_run

    def remove_others(self, folder: Folder, names: Collection[bytes]) -> None:
        """Remove what is selected in a folder and not among ``names``; OSError when it cannot be listed."""
        for name in sorted(map(os.fsencode, os.listdir(self._folders.fd(folder)))):
            if name not in names and self._selection.wants(folder, name)[0]:
                self.remove(folder, name)

    def remove(self, parent: Folder, name: bytes) -> bool:
        """Remove one entry and what is inside, but for what patterns protect there; whether it is gone.

        What fails is reported. A loop over a stack, since folders may be deep.
        """
        top = _Emptying(parent, _mount(self._folders.fd(parent)), [name])
        stack = [top]
        while top.names or len(stack) > 1:
            level = stack[-1]
            if not level.names:
                self._leave(stack.pop(), stack[-1])
                continue
            entry = level.names.pop()
            try:
                below = self._take(level, entry)
            except OSError as error:
                level.kept = True
                self._tally.failed(level.folder, entry, error)
            else:
                if below is not None:
                    stack.append(below)
        return not top.kept

    def _take(self, level: _Emptying, name: bytes) -> _Emptying | None:
        """Remove an entry, or say how to go on with a folder."""
        fd = self._folders.fd(level.folder)
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            if not self._dry_run:
                os.unlink(name, dir_fd=fd)
            self._tally.deleted(level.folder, name)
            return None
        folder = Folder(level.folder, name)
        try:
            below = self._opened(folder, level.mount)
        except OSError:
            self._folders.forget(folder)
            raise
        if not self._selection.everything:
            chosen = [entry for entry in below.names if self._selection.wants(folder, entry)[0]]
            below.kept = len(chosen) < len(below.names)
            below.names = chosen
        return below

    def _opened(self, folder: Folder, mount: tuple[int, bytes]) -> _Emptying:
        """A folder about to be emptied; judged by its descriptor, since names may change their meaning."""
        fd = self._folders.fd(folder)
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) in self._protected:
            raise OSError(errno.EBUSY, "holds the repository or other data of this program, so it is not deleted")
        if _mount(fd) != mount:
            raise OSError(errno.EBUSY, "is another file system, so it is not deleted; unmount it first")
        return _Emptying(folder, mount, sorted(map(os.fsencode, os.listdir(fd)), reverse=True))

    def _leave(self, done: _Emptying, above: _Emptying) -> None:
        self._folders.forget(done.folder)
        if done.kept:
            above.kept = True
            return
        try:
            if not self._dry_run:
                os.rmdir(done.folder.name, dir_fd=self._folders.fd(above.folder))
            self._tally.deleted(above.folder, done.folder.name)
        except OSError as error:
            above.kept = True
            self._tally.failed(above.folder, done.folder.name, error)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _mount(fd: int) -> tuple[int, bytes]:
    """The same for folders of one mount. On Linux a bind mount of the same file system differs, too (20 us)."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    return os.fstat(fd).st_dev, next((line for line in lines if line.startswith(b"mnt_id:")), b"")
