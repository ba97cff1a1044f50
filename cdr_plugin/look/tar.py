"""Writes a folder of a version as a tar stream of PAX format.

Times keep their nanoseconds, attributes are ``SCHILY.xattr.*`` and ACLs ``SCHILY.acl.*`` records, as
GNU tar, bsdtar and star read them. Further names of a file are links to its first one, as ``tar``
itself writes them: that restores what was there, and costs its content once. (restic writes the
content again, which restores as so many files.) Holds about 200 bytes for each hard-linked file.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple, Protocol

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError
from cdr_plugin.look.acl import ACL_ATTRIBUTES, acl_text
from cdr_plugin.look.contents import Content, stream
from cdr_plugin.look.members import Member
from cdr_plugin.look.walk import Report
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node, posix_permissions

_TYPES = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "dev": tarfile.BLKTYPE,
    "chardev": tarfile.CHRTYPE,
    "fifo": tarfile.FIFOTYPE,
}
_OWNERS = range(1 << 32)


class Sink(Protocol):
    """Where an archive goes; need not be able to seek."""

    def write(self, data: bytes, /) -> object: ...


class _Entry(NamedTuple):
    header: bytes
    padding: bytes


def write_tar(
    reader: RepositoryReader, members: Iterable[tuple[Member, Content | None]], sink: Sink, report: Report
) -> None:
    """Write all members, and the end of the archive. What tar cannot hold is told to ``report``.

    Raises what the reader raises when content cannot be read after all: then the archive breaks off.
    """
    written, padding = 0, b""
    for entry, data in stream(reader, _entries(members, report)):
        if entry is not None:
            sink.write(padding + entry.header)
            written += len(padding) + len(entry.header)
            padding = entry.padding
        else:
            sink.write(data)
            written += len(data)
    end = padding + bytes(2 * tarfile.BLOCKSIZE)
    sink.write(end + bytes(-(written + len(end)) % tarfile.RECORDSIZE))


def _entries(
    members: Iterable[tuple[Member, Content | None]], report: Report
) -> Iterator[tuple[_Entry, Content | None]]:
    first_names: dict[bytes, str] = {}
    for member, content in members:
        inode = _inode(member.node)
        first = first_names.get(inode, "") if inode else ""
        try:
            header = _header(member, first)
        except (FormatError, ValueError, OverflowError) as error:
            report("/" + member.path, FormatError(f"does not fit into a tar archive: {error}"))
            continue
        if first:
            yield _Entry(header, b""), None
            continue
        if inode:
            first_names[inode] = member.path
        yield _Entry(header, bytes(-member.size % tarfile.BLOCKSIZE)), content


def _inode(node: Node) -> bytes:
    """What names of the same file share, empty for a file with one name. The content takes part: an
    inode number that was used again while the backup ran must not join two files."""
    if node.links < 2 or not node.inode or node.type == "dir":
        return b""
    shared = f"{node.type} {node.device_id} {node.inode} {node.content}"
    return blake2b(shared.encode(), digest_size=16).digest()


def _header(member: Member, first_name: str) -> bytes:
    """The header blocks of a member, or of a link to ``first_name``. ValueError for what does not fit."""
    node = member.node
    if node.uid not in _OWNERS or node.gid not in _OWNERS:
        raise FormatError(f"owner {node.uid}:{node.gid} is out of range")
    info = tarfile.TarInfo(member.path)
    info.type = _TYPES[node.type]
    info.mode = posix_permissions(node.mode)
    info.uid, info.gid, info.uname, info.gname = node.uid, node.gid, node.user, node.group
    info.size = member.size
    if first_name:
        info.type, info.linkname, info.size = tarfile.LNKTYPE, first_name, 0
    elif node.type == "symlink":
        target = node.linktarget_raw or node.linktarget.encode()
        info.linkname = target.decode("utf-8", "surrogateescape")
    elif node.type in ("dev", "chardev"):
        info.devmajor, info.devminor = _device(node.device)
    info.pax_headers = {} if first_name else _attributes(node)
    info.mtime, exact = _time(node.mtime)
    if exact:
        info.pax_headers["mtime"] = exact
    if node.atime != node.mtime:
        seconds, exact = _time(node.atime)
        info.pax_headers["atime"] = exact or str(seconds)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _time(text: str) -> tuple[int, str]:
    """Whole seconds, and the exact decimal number where there is more to it."""
    seconds, nanoseconds = parse_time(text)
    if not nanoseconds:
        return seconds, ""
    whole, fraction = divmod(abs(seconds * 10**9 + nanoseconds), 10**9)
    return seconds, f"{'-' if seconds < 0 else ''}{whole}.{fraction:09d}".rstrip("0")


def _attributes(node: Node) -> dict[str, str]:
    records: dict[str, str] = {}
    for attribute in node.extended_attributes:
        if attribute.name in ACL_ATTRIBUTES:
            records[ACL_ATTRIBUTES[attribute.name]] = acl_text(attribute.value)
        else:
            # A record ends its keyword with "=", so GNU tar writes it so, and "%" as well.
            name = attribute.name.replace("%", "%25").replace("=", "%3D")
            records[f"SCHILY.xattr.{name}"] = attribute.value.decode("utf-8", "surrogateescape")
    return records


def _device(number: int) -> tuple[int, int]:
    """Major and minor number of Linux, on whatever system this runs."""
    return (number >> 8 & 0xFFF) | (number >> 32 & ~0xFFF), (number & 0xFF) | (number >> 12 & 0xFFFFFF00)
