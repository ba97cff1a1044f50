"""A big tree of real files: copies of what this machine has in ``/usr``."""

from __future__ import annotations

import os
import shutil
import stat
from itertools import count
from pathlib import Path

_SMALL_BYTES = 32 * 1024
_BIG_BYTES = 8 << 20
_ALL_BIG_BYTES = 400 << 20
"""Files up to ``_SMALL_BYTES`` are all taken (about 6 KB each), bigger ones until they add up to this."""


def make_real_tree(root: Path, files: int) -> None:
    """Make ``root`` with more than ``files`` regular files, in several copies of ``/usr`` if need be."""
    copier = _Copier(files)
    for copy in count():
        if copier.copy(Path("/usr"), root / str(copy)):
            return


class _Copier:
    def __init__(self, files: int) -> None:
        self._files_left = files
        self._big_left = _ALL_BIG_BYTES

    def copy(self, source: Path, target: Path) -> bool:
        """True once there are enough files."""
        for folder, folders, names in os.walk(source):
            folders.sort()
            place = target / os.path.relpath(folder, source)
            place.mkdir(parents=True)
            for name in sorted([*names, *folders]):
                self._copy_one(Path(folder, name), place / name)
            if self._files_left < 0:
                return True
        return False

    def _copy_one(self, source: Path, target: Path) -> None:
        info = source.lstat()
        if stat.S_ISLNK(info.st_mode):
            target.symlink_to(os.readlink(source))
        elif stat.S_ISREG(info.st_mode) and self._wanted(info.st_size):
            shutil.copy2(source, target)
            os.chown(target, info.st_uid, info.st_gid)
            self._files_left -= 1

    def _wanted(self, size: int) -> bool:
        if size <= _SMALL_BYTES:
            return True
        if size > min(_BIG_BYTES, self._big_left):
            return False
        self._big_left -= size
        return True
