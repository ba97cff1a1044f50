"""The file system that a mount shows: answers by path, in Python alone.

Everything raises OSError with the number that the kernel wants; what is wrong in the repository is
EIO, and told to the reporter. For any number of threads.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import CdrError, FormatError
from cdr_plugin.look.contents import Content
from cdr_plugin.look.walk import name_of
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, blob_id_of, decode_tree
from cdr_plugin.mount.attributes import Attributes, layout_attributes, node_attributes, time_ns
from cdr_plugin.mount.caches import Cache, ReadAhead
from cdr_plugin.mount.layout import Directory, Entry, Latest
from cdr_plugin.mount.source import Source
from cdr_plugin.reporter import Reporter

FOLDER_CACHE_BYTES = 64 * 1024 * 1024
BLOB_CACHE_BYTES = 64 * 1024 * 1024
AHEAD_BYTES = 8 * 1024 * 1024
"""Of the blobs behind the one that is read, while a file is read from front to back."""
_NODE_FACTOR = 4
"""A decoded folder takes about this many times the bytes of its tree."""
_ID_BYTES = 32
_SLACK_BYTES = 1024 * 1024


@dataclass(slots=True)
class Limits:
    """Memory for what is remembered, in bytes."""

    folders: int = FOLDER_CACHE_BYTES
    blobs: int = BLOB_CACHE_BYTES
    ahead: int = AHEAD_BYTES


class Found(NamedTuple):
    """What is at a path: an entry above the versions, or a node at ``inside`` of a version."""

    version: StoredVersion | None
    inside: str
    entry: Entry | Node


class OpenFile:
    """A file that somebody reads: 40 bytes for each of its blobs."""

    __slots__ = ("_ends", "_ids", "next_offset")

    def __init__(self, content: Content) -> None:
        self._ids = b"".join(content.ids)
        self._ends = array("Q", accumulate(content.sizes))
        self.next_offset = 0
        """Where the last read ended; 0 as long as there was none."""

    @property
    def size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def at(self, offset: int) -> int:
        """The number of the blob that holds this byte."""
        return bisect_right(self._ends, offset)

    def id(self, number: int) -> BlobId:
        return BlobId(self._ids[number * _ID_BYTES : (number + 1) * _ID_BYTES])

    def start(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    def behind(self, number: int, room: int) -> Iterator[BlobId]:
        """The next blob, if there is one, and those that begin in the ``room`` bytes behind this one."""
        last = self.at(min(self._ends[number] + room, self.size - 1))
        return (self.id(later) for later in range(number + 1, last + 1))

    def goes_on(self, offset: int) -> bool:
        """Is this one more read from front to back? The kernel may ask for neighbours out of order."""
        return self.next_offset > 0 and abs(offset - self.next_offset) <= _SLACK_BYTES


class VersionFiles:
    """Every version that a ``Source`` shows, as files."""

    def __init__(
        self, source: Source, reporter: Reporter, *, owner_root: bool = False, limits: Limits | None = None
    ) -> None:
        limits = limits or Limits()
        self._source = source
        self._reporter = reporter
        self._owner_root = owner_root
        self._ahead_bytes = limits.ahead
        self._folders: Cache[BlobId, Mapping[str, Node]] = Cache(self._load_folder, limits.folders)
        self._blobs: Cache[BlobId, bytes] = Cache(self._load_blob, limits.blobs)
        self._ahead = ReadAhead(self._blobs)
        self._mutex = threading.Lock()
        self._open: dict[int, OpenFile] = {}
        self._last_handle = 0

    def close(self) -> None:
        self._ahead.close()

    # --- questions --------------------------------------------------------------------------------

    def lookup(self, path: str) -> Attributes:
        """ENOENT, ENOTDIR, EIO."""
        with self._errors(path):
            return self._attributes(path, self._find(path))

    def readdir(self, path: str) -> Iterator[tuple[str, Attributes]]:
        """Names in the order of the tree, without ``.`` and ``..``. ENOENT, ENOTDIR, EIO; entries of
        types that no file system has are left out."""
        with self._errors(path):
            found = self._find(path)
            if isinstance(found.entry, Directory):
                inside = [(name, Found(None, "", entry)) for name, entry in found.entry.entries.items()]
            else:
                nodes = self._folder(found)
                inside = [
                    (name, Found(found.version, f"{found.inside}/{name}", node)) for name, node in nodes.items()
                ]
        for name, item in inside:
            try:
                yield name, self._attributes(f"{path.rstrip('/')}/{name}", item)
            except FormatError:
                continue

    def readlink(self, path: str) -> bytes:
        """EINVAL for what is no link."""
        with self._errors(path):
            entry = self._find(path).entry
            if isinstance(entry, Latest):
                return os.fsencode(entry.target)
            if isinstance(entry, Node) and entry.type == "symlink":
                return entry.linktarget_raw or entry.linktarget.encode()
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    def xattrs(self, path: str) -> Mapping[str, bytes]:
        with self._errors(path):
            entry = self._find(path).entry
            if not isinstance(entry, Node) or not entry.extended_attributes:
                return MappingProxyType({})
            return {item.name: item.value for item in entry.extended_attributes if item.name and "\0" not in item.name}

    def open(self, path: str) -> int:
        """A handle for ``read``. EISDIR, and EIO for a file of which a blob is lost."""
        with self._errors(path):
            node = self._find(path).entry
            if not isinstance(node, Node) or node.type != "file":
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
            with self._source.reader() as reader:
                file = OpenFile(Content(reader, node))
        with self._mutex:
            self._last_handle += 1
            self._open[self._last_handle] = file
            return self._last_handle

    def read(self, path: str, handle: int, size: int, offset: int) -> bytes:
        """``size`` bytes from ``offset``, fewer only at the end of the file. Fetches the blobs that hold
        them, and a few behind them when the file is read from front to back."""
        with self._errors(path):
            file = self._open[handle]
            end = min(offset + size, file.size)
            if offset >= end:
                return b""
            number = file.at(offset)
            if file.goes_on(offset):
                self._ahead.fetch(file.behind(number, self._ahead_bytes))
            parts: list[bytes] = []
            at = offset
            while at < end:
                blob, start = self._blobs.get(file.id(number)), file.start(number)
                parts.append(blob[at - start : end - start])
                at = start + len(blob)
                number += 1
            file.next_offset = end
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self, handle: int) -> None:
        with self._mutex:
            self._open.pop(handle, None)

    # --- finding ----------------------------------------------------------------------------------

    def _find(self, path: str) -> Found:
        names = [name for name in path.split("/") if name]
        entry: Entry = self._source.root()
        for depth, name in enumerate(names):
            if isinstance(entry, StoredVersion):
                return self._find_inside(entry, names[depth:], path)
            if not isinstance(entry, Directory):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            below = entry.entries.get(name)
            if below is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            entry = below
        return Found(entry if isinstance(entry, StoredVersion) else None, "", entry)

    def _find_inside(self, version: StoredVersion, names: list[str], path: str) -> Found:
        tree = blob_id_of(version.snapshot.tree)
        node: Node | None = None
        for name in names:
            if node is not None:
                tree = _tree_of(node, path)
            node = self._folders.get(tree).get(name)
            if node is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        assert node is not None
        return Found(version, "/" + "/".join(names), node)

    def _folder(self, found: Found) -> Mapping[str, Node]:
        if isinstance(found.entry, StoredVersion):
            return self._folders.get(blob_id_of(found.entry.snapshot.tree))
        if isinstance(found.entry, Node):
            return self._folders.get(_tree_of(found.entry, found.inside))
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), found.inside)

    def _attributes(self, path: str, found: Found) -> Attributes:
        entry = found.entry
        if isinstance(entry, Node):
            assert found.version is not None
            return node_attributes(entry, found.version.id, found.inside, owner_root=self._owner_root)
        root = self._owner_root
        if isinstance(entry, Latest):
            when = time_ns(entry.version.snapshot.time)
            return layout_attributes(path, stat.S_IFLNK, when, len(os.fsencode(entry.target)), owner_root=root)
        when = time_ns(entry.snapshot.time) if isinstance(entry, StoredVersion) else self._newest(entry)
        return layout_attributes(path, stat.S_IFDIR, when, owner_root=root)

    def _newest(self, directory: Directory) -> int:
        """The time of the newest version below: folders change when versions come."""
        link = directory.entries.get("latest")
        if isinstance(link, Latest):
            return time_ns(link.version.snapshot.time)
        link = self._source.root().folder("snapshots").entries.get("latest")
        return time_ns(link.version.snapshot.time) if isinstance(link, Latest) else 0

    # --- loading ----------------------------------------------------------------------------------

    def _load_folder(self, tree: BlobId) -> tuple[Mapping[str, Node], int]:
        with self._source.reader() as reader:
            data = reader.read(BlobType.TREE, tree)
        entries: dict[str, Node] = {}
        for node in decode_tree(data):
            try:
                entries.setdefault(name_of(node), node)
            except FormatError as error:
                self._reporter.error(f"tree {tree.hex()[:10]}", "mount", error)
        return entries, _NODE_FACTOR * len(data) + 1024

    def _load_blob(self, id_: BlobId) -> tuple[bytes, int]:
        with self._source.reader() as reader:
            data = reader.read(BlobType.DATA, id_)
        return data, len(data) + 256

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except CdrError as error:
            self._reporter.error(path, "mount", error)
            raise OSError(errno.EIO, str(error), path) from None


def _tree_of(node: Node, path: str) -> BlobId:
    if node.type != "dir":
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return blob_id_of(node.subtree)
