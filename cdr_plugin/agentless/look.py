"""One look at a folder that others write into: has it changed, and has it come to rest?

Only ``lstat``: nothing is opened, no link followed, nothing changed. What vanishes or cannot be listed
meanwhile counts as it is found: it makes the next look another one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from struct import Struct

from cdr_plugin.errors import NotFoundError, RemoteError

REST_S = 60.0
"""A file whose time is nearer to now may still be written; on either side, as a file server's clock may be ahead."""

_ENTRY = Struct("<IQqqqQ")


@dataclass(frozen=True, slots=True)
class Look:
    """``digest`` over paths, types, sizes, times and inodes: equal for a folder in which nothing has changed.
    ``device``: the number of the folder's file system; ``entries``: what is in it, at all depths."""

    digest: bytes
    device: int
    entries: int
    fresh: bool
    """Something has a modification time of just now."""
    touched: bool
    """Something was changed just now by the file system's own account, whatever its modification time says: many
    programs that copy set the time of the original."""


def look(folder: Path, now_s: float) -> Look:
    """NotFoundError when there is no folder, RemoteError when it cannot be read."""
    top = _folder_status(folder)
    digest, entries = sha256(), 0
    fresh, touched = _is_near(top.st_mtime, now_s), _is_near(top.st_ctime, now_s)
    for path, found in _walk(os.fsencode(folder)):
        digest.update(len(path).to_bytes(4, "big") + path + _packed(found))
        entries += 1
        if found is not None:
            fresh |= _is_near(found.st_mtime, now_s)
            touched |= _is_near(found.st_ctime, now_s)
    digest.update(_packed(top))
    return Look(digest.digest(), top.st_dev, entries, fresh, touched)


def _folder_status(folder: Path) -> os.stat_result:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        raise NotFoundError(f"agentless folder {folder}: it is not there; make it, or mount it") from None
    except OSError as error:
        raise RemoteError(f"agentless folder {folder}: {error.strerror}") from None
    if stat.S_ISLNK(found.st_mode):
        raise NotFoundError(f"agentless folder {folder}: a symbolic link, which is never followed; name the folder")
    if not stat.S_ISDIR(found.st_mode):
        raise NotFoundError(f"agentless folder {folder}: not a folder")
    try:
        _names(os.fsencode(folder))
    except OSError as error:
        raise RemoteError(f"agentless folder {folder}: {error.strerror}") from None
    return found


def _walk(folder: bytes) -> Iterator[tuple[bytes, os.stat_result | None]]:
    """Everything below ``folder``, in a fixed order; None for what cannot be looked at."""
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        try:
            names = _names(path)
        except OSError:
            yield path, None
            continue
        for name in names:
            below = os.path.join(path, name)
            found = _status(below)
            yield below, found
            if found is not None and stat.S_ISDIR(found.st_mode):
                waiting.append(below)


def _names(folder: bytes) -> list[bytes]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _packed(found: os.stat_result | None) -> bytes:
    if found is None:
        return b"?"
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    return _ENTRY.pack(found.st_mode, size, found.st_mtime_ns, found.st_ctime_ns, found.st_nlink, found.st_ino)


def _is_near(time_s: float, now_s: float) -> bool:
    return abs(now_s - time_s) < REST_S
