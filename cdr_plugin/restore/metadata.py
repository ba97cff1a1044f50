"""Owner, mode, times and extended attributes: from a node, onto a file.

The order is owner, attributes, mode, times: changing the owner clears setuid, an attribute cannot be
written to a read-only file by an ordinary user, an ACL changes the mode, and times come last.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from cdr_plugin.errors import FormatError
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node, posix_permissions
from cdr_plugin.restore.rules import MetadataRules

_SET_IDS = stat.S_ISUID | stat.S_ISGID
_NO_OWNER = (1 << 32) - 1
_NOTHING: Mapping[str, bytes] = {}
_OURS = ("user.", "trusted.", "system.posix_acl_")


class Applied(NamedTuple):
    """How applying metadata went. ``attributes`` is false when the file system cannot store them;
    ``error`` is the first step that failed, beside which all others were done."""

    attributes: bool
    error: OSError | None


WHOLLY = Applied(True, None)


class Metadata:
    """What a node says about a file, apart from its content."""

    __slots__ = ("atime_ns", "attributes", "gid", "mode", "mtime_ns", "rules", "uid")

    def __init__(self, node: Node, rules: MetadataRules) -> None:
        """FormatError when a number or a time is not one."""
        self.uid, self.gid = rules.owner(node) if rules.by_name else (node.uid, node.gid)
        if not (0 <= self.uid < _NO_OWNER and 0 <= self.gid < _NO_OWNER):
            raise FormatError(f"owner {node.uid}:{node.gid} is out of range")
        self.rules = rules
        self.mode = posix_permissions(node.mode)
        self.mtime_ns = _time_ns(node.mtime)
        self.atime_ns = self.mtime_ns if node.atime == node.mtime else _time_ns(node.atime)
        self.attributes: Mapping[str, bytes] = _NOTHING
        if node.extended_attributes:
            found = [(_attribute_name(item.name), item.value) for item in node.extended_attributes]
            self.attributes = {name: value for name, value in found if rules.wants(name)}


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


class _Steps:
    """Does one step after the other, whatever became of those before."""

    __slots__ = ("error", "stored")

    def __init__(self) -> None:
        self.stored = True
        self.error: OSError | None = None

    def done(self) -> Applied:
        return WHOLLY if self.stored and self.error is None else Applied(self.stored, self.error)

    def try_to(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            self.error = self.error or error

    def own(self, chown: Callable[[], object]) -> bool:
        """Set the owner; False where that may not be. Then setuid and setgid must not be set
        either, or the file would run as somebody else. Ordinary users are not told: they know."""
        try:
            chown()
        except OSError as error:
            if os.geteuid() == 0 or not isinstance(error, PermissionError):
                self.error = self.error or error
            return False
        return True

    def set_attributes(self, file: int | bytes, metadata: Metadata, *, follow: bool) -> None:
        for name, value in metadata.attributes.items():
            try:
                os.setxattr(file, name, value, follow_symlinks=follow)
            except OSError as error:
                if error.errno == errno.ENOTSUP:
                    self.stored = False
                elif error.errno != errno.EPERM or os.geteuid() == 0:
                    self.error = self.error or error


def apply_to_fd(fd: int, metadata: Metadata, *, clean: bool) -> Applied:
    """Apply to an open file or folder. ``clean``: take off attributes that the node does not have."""
    steps = _Steps()
    owned = steps.own(lambda: os.fchown(fd, metadata.uid, metadata.gid))
    if clean:
        steps.try_to(lambda: _remove_others(fd, metadata))
    if metadata.attributes:
        steps.set_attributes(fd, metadata, follow=True)
    steps.try_to(lambda: os.fchmod(fd, metadata.mode if owned else metadata.mode & ~_SET_IDS))
    steps.try_to(lambda: os.utime(fd, ns=(metadata.atime_ns, metadata.mtime_ns)))
    return steps.done()


def apply_to_link(dir_fd: int, name: bytes, metadata: Metadata) -> Applied:
    """``apply_to_fd`` for a symbolic link, which has no mode of its own."""
    steps = _Steps()
    steps.own(lambda: os.chown(name, metadata.uid, metadata.gid, dir_fd=dir_fd, follow_symlinks=False))
    if metadata.attributes:
        # There is no lsetxattrat; the descriptor's own /proc link cannot be redirected.
        steps.set_attributes(b"/proc/self/fd/%d/%s" % (dir_fd, name), metadata, follow=False)
    times = (metadata.atime_ns, metadata.mtime_ns)
    steps.try_to(lambda: os.utime(name, ns=times, dir_fd=dir_fd, follow_symlinks=False))
    return steps.done()


def apply_to_special(dir_fd: int, name: bytes, metadata: Metadata) -> Applied:
    """``apply_to_fd`` for a FIFO or device, which must not be opened. OSError when it is gone."""
    steps = _Steps()
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        path = b"/proc/self/fd/%d" % fd
        owned = steps.own(lambda: os.chown(path, metadata.uid, metadata.gid))
        if metadata.attributes:
            steps.set_attributes(path, metadata, follow=True)
        steps.try_to(lambda: os.chmod(path, metadata.mode if owned else metadata.mode & ~_SET_IDS))
        steps.try_to(lambda: os.utime(path, ns=(metadata.atime_ns, metadata.mtime_ns)))
    finally:
        os.close(fd)
    return steps.done()


def _remove_others(fd: int, metadata: Metadata) -> None:
    """Take off inherited ACLs and what an existing folder had; labels of the system stay."""
    try:
        present = os.listxattr(fd)
    except OSError:
        return
    for name in present:
        if name.startswith(_OURS) and name not in metadata.attributes and metadata.rules.wants(name):
            os.removexattr(fd, name)
