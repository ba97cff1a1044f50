"""What ``stat`` says of the entries of a mount."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from hashlib import blake2b

from cdr_plugin.errors import FormatError
from cdr_plugin.look.walk import path_bytes
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node, posix_permissions

_KINDS = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "dev": stat.S_IFBLK,
    "chardev": stat.S_IFCHR,
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
}
_BLOCK_BYTES = 512
_IDS = range((1 << 32) - 1)


@dataclass(frozen=True, slots=True)
class Attributes:
    """As in ``struct stat``; times in nanoseconds since 1970."""

    mode: int
    inode: int
    size: int = 0
    links: int = 1
    uid: int = 0
    gid: int = 0
    device: int = 0
    mtime_ns: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0

    @property
    def blocks(self) -> int:
        return -(-self.size // _BLOCK_BYTES)


def node_attributes(node: Node, version: str, path: str, *, owner_root: bool) -> Attributes:
    """Of a node at ``path`` in ``version``. FormatError for a type that no file system has."""
    if node.type not in _KINDS:
        raise FormatError(f"an entry of unknown type {node.type[:20]!r}")
    mtime_ns = time_ns(node.mtime)
    target = node.linktarget_raw or node.linktarget.encode() if node.type == "symlink" else b""
    return Attributes(
        mode=_KINDS[node.type] | posix_permissions(node.mode),
        inode=_inode(node, version, path),
        size=min(max(node.size, 0), (1 << 63) - 1) or len(target),
        # Folders have 1, as on btrfs: counting those inside would take reading their tree.
        links=1 if node.type == "dir" else min(max(node.links, 1), (1 << 32) - 1),
        uid=_owner(node.uid, owner_root),
        gid=_owner(node.gid, owner_root),
        device=node.device if 0 <= node.device < 1 << 64 else 0,
        mtime_ns=mtime_ns,
        # restic writes the first one twice as a rule, and reading a time takes 5 microseconds.
        atime_ns=mtime_ns if node.atime == node.mtime else time_ns(node.atime),
        ctime_ns=mtime_ns if node.ctime == node.mtime else time_ns(node.ctime),
    )


def layout_attributes(path: str, kind: int, time_ns: int, size: int = 0, *, owner_root: bool) -> Attributes:
    """Of a folder above the versions, the root of a version, or a link beside it."""
    owner = (0, 0) if owner_root else (os.getuid(), os.getgid())
    permissions = 0o777 if kind == stat.S_IFLNK else 0o555
    times = time_ns, time_ns, time_ns
    return Attributes(kind | permissions, _number("layout", path), size, 1, *owner, 0, *times)


def time_ns(text: str) -> int:
    """0 for what is no time."""
    try:
        seconds, nanoseconds = parse_time(text)
    except FormatError:
        return 0
    return seconds * 1_000_000_000 + nanoseconds


def _owner(id_: int, owner_root: bool) -> int:
    return 0 if owner_root else id_ if id_ in _IDS else 65534


def _inode(node: Node, version: str, path: str) -> int:
    """One number for all names of a file in a version. The content takes part: an inode number that
    was used again while the backup ran must not make two files one."""
    if node.links > 1 and node.inode and node.type != "dir":
        return _number(version, f"{node.type} {node.device_id} {node.inode} {node.content}")
    return _number(version, path)


def _number(*parts: str) -> int:
    """Not 0, and 1 is the root's."""
    digest = blake2b(b"\0".join(map(path_bytes, parts)), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 2
