"""Stat records of the kernel, in bulk.

A record begins with the mode, so every 72nd byte from the second on is the byte with the file type.
Slicing and translating it costs nanoseconds per entry where unpacking costs half a microsecond.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from struct import Struct

from cdr_plugin.kernel import STAT_RECORD

SIZE = STAT_RECORD.size

FILE = ord("f")
DIRECTORY = ord("d")
SYMLINK = ord("l")
FIFO = ord("p")
CHAR_DEVICE = ord("c")
BLOCK_DEVICE = ord("b")
SOCKET = ord("s")
UNKNOWN = ord("?")
"""No stat record, or a type that restic does not know."""

_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFIFO: FIFO,
    stat.S_IFCHR: CHAR_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFSOCK: SOCKET,
}
_KIND = bytes(_TYPES.get((byte & 0xF0) << 8, UNKNOWN) for byte in range(256))

DEVICE_AND_INODE = Struct("<QQ")
_DEVICE_AND_INODE_AT = 16
_INODE_AT = 24
_ONLY_DEVICE = Struct("<16xQ48x")
_ONLY_SIZE = Struct("<40xq24x")
_U32, _U64 = 2**32 - 1, 2**64 - 1


def kinds_of(stats: bytes) -> bytes:
    """One of the letters above per record."""
    return stats[1::SIZE].translate(_KIND)


def positions(kinds: bytes, kind: int) -> list[int]:
    """Where ``kind`` occurs."""
    found = []
    at = kinds.find(kind)
    while at >= 0:
        found.append(at)
        at = kinds.find(kind, at + 1)
    return found


def devices(stats: bytes) -> list[int]:
    return [device for (device,) in _ONLY_DEVICE.iter_unpack(stats)]


def sizes(stats: bytes) -> list[int]:
    return [size for (size,) in _ONLY_SIZE.iter_unpack(stats)]


def find_inode(stats: bytes, device_and_inode: bytes) -> list[int]:
    """Positions of the records of one inode, as packed by ``DEVICE_AND_INODE``.

    The lowest byte of the inode is looked at first: 0.4 microseconds for a folder of 13 entries without it,
    where a search for all bytes takes 2.4.
    """
    lowest = positions(stats[_INODE_AT::SIZE], device_and_inode[_INODE_AT - _DEVICE_AND_INODE_AT])
    return [i for i in lowest if stats.startswith(device_and_inode, SIZE * i + _DEVICE_AND_INODE_AT)]


def without(names: Sequence[bytes], stats: bytes, drop: Collection[int]) -> tuple[list[bytes], bytes]:
    """Names and records without those at the positions in ``drop``."""
    keep = [i for i in range(len(names)) if i not in drop]
    return [names[i] for i in keep], b"".join([stats[SIZE * i : SIZE * i + SIZE] for i in keep])


def pack_stat(st: os.stat_result) -> bytes:
    """The kernel's record of a ``stat`` result."""
    mtime_s, mtime_ns = divmod(st.st_mtime_ns, 10**9)
    ctime_s, ctime_ns = divmod(st.st_ctime_ns, 10**9)
    return STAT_RECORD.pack(
        st.st_mode,
        min(st.st_nlink, _U32),
        st.st_uid & _U32,
        st.st_gid & _U32,
        st.st_dev & _U64,
        st.st_ino & _U64,
        st.st_rdev & _U64,
        st.st_size,
        mtime_s,
        ctime_s,
        mtime_ns,
        ctime_ns,
    )
