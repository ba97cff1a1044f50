"""Temporary names that killed restores left behind, removed by the next one into the same folder."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time

from cdr_plugin.restore.placing import TEMPORARY_PREFIX

_is_temporary = re.compile(re.escape(TEMPORARY_PREFIX) + rb"[0-9a-f]{8}-[0-9a-f]+").fullmatch


class Leftovers:
    """Sweeps folders, unless another restore may be at work in the same target.

    Each restore keeps a shared lock on its target's descriptor, which ends with it however it ends.
    Who got an exclusive one at its start was alone then, so that all temporary names from before
    belong to nobody.
    """

    def __init__(self, target_fd: int) -> None:
        self._alone = _lock(target_fd, fcntl.LOCK_EX)
        _lock(target_fd, fcntl.LOCK_SH)
        self._before_ns = time.time_ns()

    def sweep(self, dir_fd: int) -> None:
        """Remove leftovers directly inside a folder. What cannot be removed stays: it does no harm."""
        if not self._alone:
            return
        for name in filter(_is_temporary, map(os.fsencode, _names(dir_fd))):
            try:
                found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode) and found.st_ctime_ns <= self._before_ns:
                    os.unlink(name, dir_fd=dir_fd)
            except OSError:
                continue


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _names(dir_fd: int) -> list[str]:
    try:
        return os.listdir(dir_fd)
    except OSError:
        return []
