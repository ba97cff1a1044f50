"""Files that appear whole or not at all: writing, linking, copying and comparing them.

Everything works on descriptors of folders, see ``folders``. ::

    temporary name --fill, fsync--> linked to the final name, temporary name removed
                                    (or renamed over it, where overwriting is asked for)
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdr_plugin.model.blobs import Buffer

TEMPORARY = ".cdr-put-"
"""Temporary names start so; object names never start with a dot."""

_STEP_BYTES = 1024 * 1024
_COPY_BYTES = 256 * 1024
"""Bytes between two calls of who limits or counts them."""
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_COPY_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


def write_new(folder: int, name: str, fill: Callable[[int], None], *, overwrite: bool = False) -> bool:
    """Make the file ``name`` of what ``fill`` writes to a descriptor; its bytes are durable, its
    entry is so when the folder has been synced. False when there was one (not with ``overwrite``);
    then, and after any exception, nothing has changed."""
    temporary = TEMPORARY + secrets.token_hex(16)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=folder)
    try:
        try:
            fill(descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if overwrite:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            return True
        return publish(folder, temporary, name)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)


def publish(folder: int, temporary: str, name: str) -> bool:
    """Give the finished file its final name too, or instead; False when that is taken."""
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_new(folder, temporary, name)
    return True


def _rename_new(folder: int, temporary: str, name: str) -> bool:
    """For file systems without hard links (FAT, some network mounts): look, then rename, under a
    lock that all our writers take. Mounts without locks leave a gap, for two hosts that put
    different bytes under one name at the same instant; names of parcels are random."""
    with suppress(OSError):
        fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        return True
    finally:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_UN)
    return False


def link(source: int, folder: int, name: str) -> bool:
    """A second name for the open file ``source``; False when the systems allow none there.

    By descriptor: the path may have been exchanged since. FileExistsError when ``name`` is taken.
    """
    try:
        os.link(f"/proc/self/fd/{source}", name, dst_dir_fd=folder)
    except FileExistsError:
        raise
    except OSError:  # another file system, no links, too many, protected: copying says why if it fails too
        return False
    return True


@contextmanager
def opened_object(folder: int, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """A descriptor of a regular file for reading, and its stat. Links, pipes and folders are no
    objects: FileNotFoundError, as when there is nothing."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
            raise FileNotFoundError(errno.ENOENT, "not a regular file") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file")
        yield descriptor, status
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: Buffer) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_range(descriptor: int, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes from ``offset``; fewer only at the end of the file."""
    first = os.pread(descriptor, length, offset)
    if len(first) == length or not first:
        return first
    parts = [first]
    got = len(first)
    while got < length and (part := os.pread(descriptor, length - got, offset + got)):
        parts.append(part)
        got += len(part)
    return b"".join(parts)


def copy_contents(source: int, target: int, travelled: Callable[[int], None] = lambda _count: None) -> None:
    """All bytes of ``source`` from its current position; in the kernel where it can, which shares
    them on btrfs and XFS. ``travelled`` is told the bytes of each step; what it raises ends the copying."""
    for count in _copied(source, target):
        travelled(count)


def _copied(source: int, target: int) -> Iterator[int]:
    while count := _copied_by_kernel(source, target):
        yield count
    # Also after success: some file systems (FUSE, procfs) say 0 although there is more.
    while part := os.read(source, _COPY_BYTES):
        write_all(target, part)
        yield len(part)


def _copied_by_kernel(source: int, target: int) -> int:
    """Bytes of one step; 0 at the end, and where the kernel cannot."""
    try:
        return os.copy_file_range(source, target, _COPY_BYTES)
    except OSError as error:
        if error.errno not in _NO_COPY_RANGE:
            raise
        return 0


def same_bytes(one: int, data: Buffer) -> bool:
    """Does the open file hold exactly ``data``?"""
    view = memoryview(data).cast("B")
    if os.fstat(one).st_size != len(view):
        return False
    steps = range(0, len(view), _STEP_BYTES)
    return all(read_range(one, at, _STEP_BYTES) == view[at : at + _STEP_BYTES] for at in steps)


def same_files(one: int, other: int) -> bool:
    """Do two open files hold the same bytes?"""
    first, second = os.fstat(one), os.fstat(other)
    if os.path.samestat(first, second):
        return True
    return first.st_size == second.st_size == agreeing_bytes(one, other)


def agreeing_bytes(one: int, other: int) -> int:
    """How many bytes at the start of two open files are surely the same, in whole steps or up to the
    end of the shorter one."""
    size = min(os.fstat(one).st_size, os.fstat(other).st_size)
    for at in range(0, size, _STEP_BYTES):
        step = min(_STEP_BYTES, size - at)
        if read_range(one, at, step) != read_range(other, at, step):
            return at
    return size
