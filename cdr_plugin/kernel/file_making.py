"""Batches of whole files in plain Python: the oracle of make_files.c."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from .arguments import check, check_name
from .file_steps import Step

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HOLE_BYTES = 4096
"""Shorter runs of zeros save no block on any usual file system."""
_SET_IDS = stat.S_ISUID | stat.S_ISGID

_Failure = tuple[Step, int]


class _File(NamedTuple):
    directory: int
    temporary: bytes
    name: bytes
    content: bytes | bytearray | memoryview
    mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    keep: bool


_FIELDS = len(_File._fields)


def make_files(
    files: Sequence[tuple[int, bytes, bytes, bytes | bytearray | memoryview, int, int, int, int, int, bool]],
    sparse: bool,
    /,
) -> list[tuple[int, int, int]]:
    """Make regular files, one after the other; for those with a failure their index, ``Step`` and errno.

    A file is (directory descriptor, temporary name, final name, content, permission bits, uid, gid, atime and
    mtime in nanoseconds since 1970, keep). It is made under the temporary name, which must be free, gets its
    owner, mode and times, and then its final name, where it replaces what is there; with ``keep`` it does
    not, unless that appears in the last moment. With ``sparse`` zeros at the ends that are worth a hole become one.

    What cannot be set of owner, mode and times is one failure, the first, and the file is in place; an ordinary
    user who may not set the owner is not told of it, but then setuid and setgid are left out. After any other
    failure neither the file nor the temporary name is there. Until the mode is set, others see no more of a file than
    they will in the end. The folders must give no inherited ACLs. Raises ``ValueError`` or ``TypeError`` for
    a field that makes no sense, and then nothing was made.
    """
    parsed = [_parse(file) for file in files]
    made = [_make(file, sparse) for file in parsed]
    return [(at, *failure) for at, failure in enumerate(made) if failure]


def _parse(fields: tuple[int, bytes, bytes, bytes | bytearray | memoryview, int, int, int, int, int, bool]) -> _File:
    if not isinstance(fields, tuple) or len(fields) != _FIELDS:
        raise TypeError(f"a file must be a tuple of {_FIELDS} fields")
    file = _File(*fields)
    check("directory", file.directory, 0, 2**31 - 1)
    check_name(file.temporary)
    check_name(file.name)
    check("mode", file.mode, 0, 0o7777)
    check("uid", file.uid, 0, 2**32 - 2)
    check("gid", file.gid, 0, 2**32 - 2)
    check("atime_ns", file.atime_ns, -(2**63), 2**63 - 1)
    check("mtime_ns", file.mtime_ns, -(2**63), 2**63 - 1)
    with memoryview(file.content) as view:
        return file._replace(content=bytes(view))


def _make(file: _File, sparse: bool) -> _Failure | None:
    try:
        fd = os.open(file.temporary, _NEW_FILE, _first_mode(file.mode), dir_fd=file.directory)
    except OSError as error:
        return Step.CREATE, _errno(error)
    failure, complete = _fill(fd, file, sparse)
    if complete:
        lost = _take_name(file)
        if lost is None:
            return failure
        failure = lost
    try:
        os.unlink(file.temporary, dir_fd=file.directory)
    except OSError:
        pass
    return failure


def _first_mode(mode: int) -> int:
    """What everybody may read in the end, and only its owner write, need not be hidden until it is complete."""
    return mode if mode & 0o644 == 0o644 and not mode & 0o7022 else 0o600


def _fill(fd: int, file: _File, sparse: bool) -> tuple[_Failure | None, bool]:
    """The failure, if any, and whether the file is complete all the same."""
    failure: _Failure | None = None
    try:
        _write(fd, bytes(file.content), sparse)
        now = os.fstat(fd)
    except OSError as error:
        failure = Step.WRITE, _errno(error)
    else:
        failure = _apply_metadata(fd, file, now)
    complete = failure is None or failure[0] is not Step.WRITE
    try:
        os.close(fd)
    except OSError as error:
        if complete and error.errno != errno.EINTR:
            return (Step.CLOSE, _errno(error)), False
    return failure, complete


def _write(fd: int, data: bytes, sparse: bool) -> None:
    size = len(data)
    front, behind = size - len(data.lstrip(b"\0")), size - len(data.rstrip(b"\0"))
    start = front if sparse and front >= _HOLE_BYTES else 0
    end = size - behind if sparse and behind >= _HOLE_BYTES else size
    while start < end:
        written = os.pwrite(fd, memoryview(data)[start:end], start)
        if not written:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        start += written
    if end < size:
        os.ftruncate(fd, size)


def _apply_metadata(fd: int, file: _File, now: os.stat_result) -> _Failure | None:
    """Owner before mode, since changing the owner clears setuid; where the owner may not be set, neither
    setuid nor setgid is, or the file would run as somebody else."""
    failures: list[_Failure] = []
    owned = (now.st_uid, now.st_gid) == (file.uid, file.gid)
    if not owned:
        try:
            os.fchown(fd, file.uid, file.gid)
            owned = True
        except OSError as error:
            if os.geteuid() == 0 or not isinstance(error, PermissionError):
                failures.append((Step.OWN, _errno(error)))
    mode = file.mode if owned else file.mode & ~_SET_IDS
    if stat.S_IMODE(now.st_mode) != mode:
        try:
            os.fchmod(fd, mode)
        except OSError as error:
            failures.append((Step.MODE, _errno(error)))
    try:
        os.utime(fd, ns=(file.atime_ns, file.mtime_ns))
    except OSError as error:
        failures.append((Step.TIMES, _errno(error)))
    return failures[0] if failures else None


def _take_name(file: _File) -> _Failure | None:
    try:
        if file.keep:
            os.stat(file.name, dir_fd=file.directory, follow_symlinks=False)
            return Step.LOOK, errno.EEXIST
    except OSError as error:
        if error.errno != errno.ENOENT:
            return Step.LOOK, _errno(error)
    try:
        os.rename(file.temporary, file.name, src_dir_fd=file.directory, dst_dir_fd=file.directory)
    except OSError as error:
        return Step.RENAME, _errno(error)
    return None


def _errno(error: OSError) -> int:
    return error.errno or errno.EIO
