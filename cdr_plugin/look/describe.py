"""How restic describes nodes: mode strings, long lines, and the objects of ``ls`` and ``find``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import FormatError
from cdr_plugin.look.walk import shown
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import (
    GO_CHARDEV,
    GO_DEVICE,
    GO_DIR,
    GO_FIFO,
    GO_SOCKET,
    GO_SYMLINK,
    Node,
)
from cdr_plugin.model.versions import snapshot_fields

_LETTERS = "dalTLDpSugct?"
"""Of Go's mode bits from 31 downwards."""
_TYPE_BITS = {
    "dir": GO_DIR,
    "symlink": GO_SYMLINK,
    "dev": GO_DEVICE,
    "chardev": GO_DEVICE | GO_CHARDEV,
    "fifo": GO_FIFO,
    "socket": GO_SOCKET,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def mode_string(mode: int) -> str:
    """``drwxr-xr-x``, with Go's letters for everything beyond the permissions."""
    kind = "".join(letter for at, letter in enumerate(_LETTERS) if mode >> (31 - at) & 1)
    permissions = "".join(letter if mode >> (8 - at) & 1 else "-" for at, letter in enumerate("rwxrwxrwx"))
    return (kind or "-") + permissions


@lru_cache(maxsize=4096)
def local_time(text: str) -> str:
    """An RFC 3339 time as ``YYYY-MM-DD hh:mm:ss`` of this machine; as it stands where it is none."""
    try:
        return f"{(_EPOCH + timedelta(seconds=parse_time(text)[0])).astimezone():%Y-%m-%d %H:%M:%S}"
    except (FormatError, OverflowError, ValueError, OSError):
        return text[:40]


def long_line(path: str, node: Node) -> str:
    """A line of ``ls -l``: mode, owner, group, size, time, path, and the target of a link."""
    mode = mode_string(_TYPE_BITS.get(node.type, 0) | node.mode)
    target = f" -> {node.linktarget}" if node.type == "symlink" else ""
    return f"{mode} {node.uid:5} {node.gid:5} {node.size:6} {local_time(node.mtime)} {path}{target}"


def snapshot_object(version: StoredVersion) -> dict[str, Any]:
    """The first object of ``ls --json``."""
    return {
        **snapshot_fields(version.snapshot),
        "id": version.id,
        "short_id": version.id[:8],
        "message_type": "snapshot",
        "struct_type": "snapshot",
    }


def listed_object(path: str, node: Node) -> dict[str, Any]:
    """A node as ``ls --json`` shows it."""
    path = shown(path)
    fields: dict[str, Any] = {
        "name": path.rpartition("/")[2],
        "type": node.type,
        "path": path,
        "uid": node.uid,
        "gid": node.gid,
    }
    if node.type == "file":
        fields["size"] = node.size
    if node.mode:
        fields["mode"] = node.mode
    fields["permissions"] = mode_string(node.mode)
    fields.update(mtime=node.mtime, atime=node.atime, ctime=node.ctime)
    if node.inode:
        fields["inode"] = node.inode
    fields.update(message_type="node", struct_type="node")
    return fields


_FOUND_OPTIONAL = ("user", "group", "device_id", "size", "links", "linktarget", "error")


def found_object(path: str, node: Node) -> dict[str, Any]:
    """A node as ``find --json`` shows it."""
    fields: dict[str, Any] = {"path": shown(path), "permissions": mode_string(node.mode), "type": node.type}
    if node.mode:
        fields["mode"] = node.mode
    fields.update(mtime=node.mtime, atime=node.atime, ctime=node.ctime, uid=node.uid, gid=node.gid)
    fields.update((name, value) for name in _FOUND_OPTIONAL if (value := getattr(node, name)))
    return fields
