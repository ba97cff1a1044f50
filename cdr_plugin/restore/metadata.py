"""Owner, mode, times and extended attributes: from a node, onto a file.

The order is owner, attributes, mode, times: changing the owner clears setuid, an attribute cannot be
written to a read-only file by an ordinary user, an ACL changes the mode, and times come last.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from functools import lru_cache

from cdr_plugin.errors import FormatError
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node, posix_permissions

_SET_IDS = stat.S_ISUID | stat.S_ISGID
_NO_OWNER = (1 << 32) - 1
_NOTHING: Mapping[str, bytes] = {}
_OURS = ("user.", "trusted.", "system.posix_acl_")


class Metadata:
    """What a node says about a file, apart from its content."""

    __slots__ = ("atime_ns", "attributes", "gid", "mode", "mtime_ns", "uid")

    def __init__(self, node: Node) -> None:
        """FormatError when a number or a time is not one."""
        if not (0 <= node.uid < _NO_OWNER and 0 <= node.gid < _NO_OWNER):
            raise FormatError(f"owner {node.uid}:{node.gid} is out of range")
        self.uid = node.uid
        self.gid = node.gid
        self.mode = posix_permissions(node.mode)
        self.mtime_ns = _time_ns(node.mtime)
        self.atime_ns = self.mtime_ns if node.atime == node.mtime else _time_ns(node.atime)
        self.attributes: Mapping[str, bytes] = _NOTHING
        if node.extended_attributes:
            self.attributes = {_attribute_name(item.name): item.value for item in node.extended_attributes}


@lru_cache(maxsize=4096)
def _second(text: str) -> int:
    return parse_time(text)[0]


def _time_ns(text: str) -> int:
    """Nanoseconds since 1970. Files of a folder share seconds, so those are remembered."""
    whole, dot, rest = text.partition(".")
    if not dot:
        return _second(text) * 1_000_000_000
    digits = rest.rstrip("Z") if rest.endswith("Z") else rest[:-6]
    if not (0 < len(digits) < 10 and digits.isascii() and digits.isdigit()):
        raise FormatError(f"{text[:40]!r} is not an RFC 3339 time")
    return _second(whole + rest[len(digits) :]) * 1_000_000_000 + int(digits.ljust(9, "0"))


def _attribute_name(name: str) -> str:
    if not name or "\0" in name:
        raise FormatError(f"{name[:80]!r} is not the name of an extended attribute")
    return name


def apply_to_fd(fd: int, metadata: Metadata, *, clean: bool) -> bool:
    """Apply to an open file or folder; OSError. ``clean``: take off attributes that the node does
    not have. False when the file system cannot store the attributes; the rest is applied."""
    permissions = metadata.mode if _own(fd, metadata) else metadata.mode & ~_SET_IDS
    stored = True
    if clean:
        _remove_others(fd, metadata)
    if metadata.attributes:
        stored = _set_attributes(fd, metadata, follow=True)
    os.fchmod(fd, permissions)
    os.utime(fd, ns=(metadata.atime_ns, metadata.mtime_ns))
    return stored


def apply_to_link(dir_fd: int, name: bytes, metadata: Metadata) -> bool:
    """``apply_to_fd`` for a symbolic link, which has no mode of its own."""
    try:
        os.chown(name, metadata.uid, metadata.gid, dir_fd=dir_fd, follow_symlinks=False)
    except PermissionError:
        if os.geteuid() == 0:
            raise
    stored = True
    if metadata.attributes:
        # There is no lsetxattrat; the descriptor's own /proc link cannot be redirected.
        stored = _set_attributes(b"/proc/self/fd/%d/%s" % (dir_fd, name), metadata, follow=False)
    os.utime(name, ns=(metadata.atime_ns, metadata.mtime_ns), dir_fd=dir_fd, follow_symlinks=False)
    return stored


def apply_to_special(dir_fd: int, name: bytes, metadata: Metadata) -> bool:
    """``apply_to_fd`` for a FIFO or device, which must not be opened."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        path = b"/proc/self/fd/%d" % fd
        permissions = metadata.mode if _own(path, metadata) else metadata.mode & ~_SET_IDS
        stored = not metadata.attributes or _set_attributes(path, metadata, follow=True)
        os.chmod(path, permissions)
        os.utime(path, ns=(metadata.atime_ns, metadata.mtime_ns))
        return stored
    finally:
        os.close(fd)


def _own(file: int | bytes, metadata: Metadata) -> bool:
    """Set the owner; False where an ordinary user may not. Then setuid and setgid must not be set
    either, or the file would run as the restoring user."""
    try:
        os.chown(file, metadata.uid, metadata.gid)
    except PermissionError:
        if os.geteuid() == 0:
            raise
        return False
    return True


def _set_attributes(file: int | bytes, metadata: Metadata, *, follow: bool) -> bool:
    for name, value in metadata.attributes.items():
        try:
            os.setxattr(file, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return False
            if error.errno != errno.EPERM or os.geteuid() == 0:
                raise
    return True


def _remove_others(fd: int, metadata: Metadata) -> None:
    """Take off inherited ACLs and what an existing folder had; labels of the system stay."""
    try:
        present = os.listxattr(fd)
    except OSError:
        return
    for name in present:
        if name.startswith(_OURS) and name not in metadata.attributes:
            os.removexattr(fd, name)
