"""Writes a folder of a version as a zip stream: files and links with mode, owner and time.

zip64 where it is needed. zip knows no hard links, attributes, FIFOs and devices, and no names that
are not UTF-8: their odd bytes are written as ``\\xNN``. The directory at the end takes about 1 KB of
memory per entry.
"""

from __future__ import annotations

import stat
import struct
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO, cast

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError
from cdr_plugin.look.contents import Content, stream
from cdr_plugin.look.members import Member
from cdr_plugin.look.tar import Sink
from cdr_plugin.look.walk import Report, path_bytes
from cdr_plugin.model.names import quote_name
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node, posix_permissions

_KINDS = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}
_UNIX_TIME = struct.Struct("<HHBi")
_UNIX_OWNER = struct.Struct("<HHBBIBI")
_DOS_FOLDER = 0x10
_MADE_ON_UNIX = 3
_I32 = range(-(1 << 31), 1 << 31)
_MAX_NAME_BYTES = 0xFFFF


class _Stream:
    """Hides that the sink may be able to seek: a zip file is written from front to back."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        self._sink.write(data)
        return len(data)

    def flush(self) -> None:
        """The sink's owner does."""


def write_zip(
    reader: RepositoryReader,
    members: Iterable[tuple[Member, Content | None]],
    sink: Sink,
    report: Report,
    note: Callable[[str], None],
) -> None:
    """Write all members that zip can hold; the others are told to ``note``, broken ones to ``report``.

    Raises what the reader raises when content cannot be read after all: then the archive breaks off.
    """
    archive = zipfile.ZipFile(cast("IO[bytes]", _Stream(sink)), "w", zipfile.ZIP_DEFLATED)
    opened: IO[bytes] | None = None
    for entry, data in stream(reader, _entries(members, report, note)):
        if entry is None:
            assert opened is not None
            opened.write(data)
            continue
        if opened is not None:
            opened.close()
        info, link = entry
        opened = archive.open(info, "w")
        opened.write(link)
    if opened is not None:
        opened.close()
    archive.close()


def _entries(
    members: Iterable[tuple[Member, Content | None]], report: Report, note: Callable[[str], None]
) -> Iterator[tuple[tuple[zipfile.ZipInfo, bytes], Content | None]]:
    spelled: dict[str, str] = {}
    for member, content in members:
        node = member.node
        if node.type not in _KINDS:
            note(f"/{member.path}: a zip archive cannot hold a {node.type}; left out")
            continue
        link = node.linktarget_raw or node.linktarget.encode() if node.type == "symlink" else b""
        try:
            yield (_info(member, _name(member, spelled), len(link)), link), content
        except (FormatError, ValueError, OverflowError, struct.error) as error:
            report(f"/{member.path}", FormatError(f"does not fit into a zip archive: {error}"))


def _info(member: Member, name: str, link_size: int) -> zipfile.ZipInfo:
    node = member.node
    seconds, _ = parse_time(node.mtime)
    info = zipfile.ZipInfo(name, _dos_time(seconds))
    info.create_system = _MADE_ON_UNIX
    info.external_attr = (_KINDS[node.type] | posix_permissions(node.mode)) << 16
    if node.type == "dir":
        info.external_attr |= _DOS_FOLDER
    info.compress_type = zipfile.ZIP_DEFLATED if node.type == "file" and member.size else zipfile.ZIP_STORED
    info.file_size = member.size or link_size
    info.extra = _extra(node, seconds)
    return info


def _name(member: Member, spelled: dict[str, str]) -> str:
    """The name in the archive; FormatError when it is too long, or an earlier member's path is spelled so.

    ``spelled`` has the paths with backslashes so far. A link ``\\xff`` beside a folder whose name is that byte would
    lead whoever unpacks the archive out of it.
    """
    path = member.path.split("/")
    parts = [_spelled(part) for part in path]
    name = "/".join(parts) + ("/" if member.node.type == "dir" else "")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise FormatError(f"its path has more than {_MAX_NAME_BYTES} bytes")
    for end, part in enumerate(parts, 1):
        meant = "/".join(path[:end])
        if "\\" in part and spelled.setdefault("/".join(parts[:end]), meant) != meant:
            raise FormatError("another path is spelled the same there")
    return name


def _spelled(part: str) -> str:
    try:
        part.encode()
    except UnicodeEncodeError:
        return quote_name(path_bytes(part))
    return part


def _dos_time(seconds: int) -> tuple[int, int, int, int, int, int]:
    """Local time, from 1980 to 2107, for programs that know no better."""
    try:
        local = time.localtime(seconds)[:6]
    except (OverflowError, ValueError, OSError):
        local = (1980, 1, 1, 0, 0, 0)
    return min(max(local, (1980, 1, 1, 0, 0, 0)), (2107, 12, 31, 23, 59, 58))


def _extra(node: Node, seconds: int) -> bytes:
    """Info-ZIP's fields: time of change since 1970, where 32 bits hold it, and owner and group."""
    when = _UNIX_TIME.pack(0x5455, 5, 1, seconds) if seconds in _I32 else b""
    return when + _UNIX_OWNER.pack(0x7875, 11, 1, 4, node.uid, 4, node.gid)
