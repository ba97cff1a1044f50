"""Nodes: what a tree says of a directory entry, besides its content."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections.abc import Callable
from datetime import tzinfo

from cdr_plugin.archiver.exclude import display
from cdr_plugin.archiver.stats import BLOCK_DEVICE, CHAR_DEVICE, DIRECTORY, FIFO, FILE, SYMLINK
from cdr_plugin.archiver.walk import Folder
from cdr_plugin.model.names import quote_name
from cdr_plugin.model.times import time_formatter
from cdr_plugin.model.trees import ExtendedAttribute, Node, go_mode, link_target_text

_NO_ATTRIBUTES: list[ExtendedAttribute] = []
_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_DEVICE = 0
"""In the records of what is on no file system: a stream, and the folders above it."""
_HAS_LINKS = {FILE, SYMLINK, BLOCK_DEVICE, CHAR_DEVICE}
_TYPES = {
    FILE: "file",
    DIRECTORY: "dir",
    SYMLINK: "symlink",
    BLOCK_DEVICE: "dev",
    CHAR_DEVICE: "chardev",
    FIFO: "fifo",
}

StatFields = tuple[int, int, int, int, int, int, int, int, int, int, int, int]
"""The fields of ``kernel.StatRecord``, unnamed: naming them costs as much as unpacking them."""


class Accounts:
    """Names of users and groups by number, looked up once; empty where there is none."""

    def __init__(self) -> None:
        self.users: dict[int, str] = {}
        self.groups: dict[int, str] = {}

    def user(self, uid: int) -> str:
        name = self.users.get(uid)
        if name is None:
            name = self.users[uid] = _name(lambda: pwd.getpwuid(uid).pw_name)
        return name

    def group(self, gid: int) -> str:
        name = self.groups.get(gid)
        if name is None:
            name = self.groups[gid] = _name(lambda: grp.getgrgid(gid).gr_name)
        return name


def _name(look_up: Callable[[], str]) -> str:
    try:
        return look_up()
    except (KeyError, OSError, OverflowError):
        return ""


class NodeBuilder:
    """Builds nodes. Belongs to one thread. ``note`` hears of attributes that cannot be read."""

    def __init__(self, zone: tzinfo, accounts: Accounts, note: Callable[[str], None]) -> None:
        self._format_time = time_formatter(zone)
        self._accounts = accounts
        self._note = note
        self._owners: dict[tuple[int, int, int], tuple[int, str, str]] = {}
        self._without_attributes = {_NO_DEVICE}

    def node(
        self, folder: Folder, name: bytes, kind: int, fields: StatFields, size: int, ids: bytes
    ) -> Node:
        """The node of one entry. ``size`` and ``ids`` are those of a file's content, or ``ids`` is a
        subtree. OSError when the entry cannot be looked at any more."""
        mode, links, uid, gid, device, inode, rdev, _, mtime_s, ctime_s, mtime_ns, ctime_ns = fields
        full_mode, user, group = self._owners.get((mode, uid, gid)) or self._owner(mode, uid, gid)
        mtime = self._format_time(mtime_s, mtime_ns)
        atime = folder.atimes.get(name) if folder.atimes else None
        node = Node(
            name=quote_name(name),
            type=_TYPES[kind],
            mode=full_mode,
            mtime=mtime,
            atime=mtime if atime is None else self._format_time(*atime),
            ctime=mtime if ctime_s == mtime_s and ctime_ns == mtime_ns else self._format_time(ctime_s, ctime_ns),
            uid=uid,
            gid=gid,
            user=user,
            group=group,
            inode=inode,
            device_id=device,
            size=size,
            links=links if kind in _HAS_LINKS else 0,
            content=_hex_ids(ids) if kind == FILE else None,
        )
        if device not in self._without_attributes:
            attributes = self._attributes(folder, name, device)
            if attributes:
                node.extended_attributes = attributes
        if kind == FILE:
            return node
        if kind == DIRECTORY:
            node.subtree = ids.hex()
        elif kind == SYMLINK:
            _set_link_target(node, folder.entry_path(name))
        elif kind != FIFO:
            node.device = rdev
        return node

    def _owner(self, mode: int, uid: int, gid: int) -> tuple[int, str, str]:
        """Go's mode and the names; remembered, since few combinations occur."""
        found = go_mode(mode), self._accounts.user(uid), self._accounts.group(gid)
        self._owners[mode, uid, gid] = found
        return found

    def _attributes(self, folder: Folder, name: bytes, device: int) -> list[ExtendedAttribute]:
        if folder.paths is None:
            path, follow = folder.path + b"/" + name, False
        else:
            path, follow = folder.entry_path(name), folder.follows(name)
        try:
            found = os.listxattr(path, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                self._without_attributes.add(device)
            elif error.errno != errno.ENOENT and not follow:
                shown = display(folder.entry_shown(name))
                self._note(f"{shown}: extended attributes cannot be listed: {error.strerror}")
            return _NO_ATTRIBUTES
        return self._values(folder.entry_shown(name), path, found, follow) if found else _NO_ATTRIBUTES

    def _values(self, shown: bytes, path: bytes, names: list[str], follow: bool) -> list[ExtendedAttribute]:
        attributes = []
        for name in names:
            try:
                value = os.getxattr(path, name, follow_symlinks=follow)
            except OSError as error:
                self._note(f"{display(shown)}: extended attribute {name!r} cannot be read: {error.strerror}")
                continue
            attributes.append(ExtendedAttribute(link_target_text(os.fsencode(name)), value))
        return attributes


def _hex_ids(ids: bytes) -> list[str]:
    if len(ids) == 32:
        return [ids.hex()]
    return [ids[at : at + 32].hex() for at in range(0, len(ids), 32)]


def _set_link_target(node: Node, path: bytes) -> None:
    target = os.readlink(path)
    try:
        node.linktarget = target.decode("utf-8")
    except UnicodeDecodeError:
        node.linktarget = link_target_text(target)
        node.linktarget_raw = target
