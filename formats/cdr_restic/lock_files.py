"""What a lock says: who works on the repository, since when, and whether alone."""

from __future__ import annotations

import os
from datetime import timedelta

import msgspec

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import go_json
from cdr_restic.files import SealedFiles
from cdr_restic.host import host_name, now_text, user_name
from cdr_restic.storage import FileKind

STALE_S = 30 * 60
"""From this age on ``unlock`` removes a lock."""
MAX_LOCK_BYTES = 64 * 1024
"""restic's have about 200; host and user names are all that varies."""


class LockFile(msgspec.Struct, omit_defaults=True):
    """A lock, field for field."""

    time: str
    exclusive: bool
    hostname: str = ""
    username: str = ""
    pid: int = 0
    uid: int = 0
    gid: int = 0


_decoder = msgspec.json.Decoder(LockFile)


def parse_lock(data: Buffer) -> LockFile:
    """FormatError."""
    try:
        lock = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"lock: {error}") from None
    parse_time(lock.time)
    return lock


def load_lock(files: SealedFiles, name: str) -> LockFile | None:
    """None for an empty file: an interrupted write, says restic. NotFoundError, IntegrityError."""
    size = files.storage.size(FileKind.LOCKS, name)
    if size == 0:
        return None
    if size > MAX_LOCK_BYTES:
        raise files.damaged(FileKind.LOCKS, name, FormatError(f"{size} bytes are too many for a lock"))
    data = files.load(FileKind.LOCKS, name)
    try:
        return parse_lock(data)
    except FormatError as error:
        raise files.damaged(FileKind.LOCKS, name, error) from None


def our_lock(*, exclusive: bool = False) -> bytes:
    lock = LockFile(now_text(), exclusive, host_name(), user_name(), os.getpid(), os.getuid(), os.getgid())
    return go_json(msgspec.json.encode(lock))


def is_stale(lock: LockFile, now_s: float) -> bool:
    """Whether ``unlock`` removes it: old, or its process on this machine is gone."""
    if now_s - parse_time(lock.time)[0] > STALE_S:
        return True
    return lock.hostname == host_name() and not _is_running(lock.pid)


def _is_running(pid: int) -> bool:
    if not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def conflict_text(location: str, lock: LockFile, now_s: float) -> str:
    """Who holds the repository, since when, and what to do about it."""
    age = timedelta(seconds=max(int(now_s - parse_time(lock.time)[0]), 0))
    holder = f"{_shown(lock.username)}@{_shown(lock.hostname)} (process {lock.pid})"
    advice = (
        "the lock is stale, remove it with 'cdr unlock' or 'restic unlock'"
        if is_stale(lock, now_s)
        else "try again when that process is done, or wait for it with --retry-lock"
    )
    how = "locked exclusively" if lock.exclusive else "in use"
    return f"repository {location} is {how} by {holder} since {lock.time} ({age} ago); {advice}"


def _shown(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:64]) or "?"
