"""Restores a version: walk and make what has no content, fill files, link, then finish folders.

The walk stops at ``WINDOW_FILES`` waiting files to write their contents in one reading of the
packs, then goes on; so memory is bounded, and up to that many files each blob is read once.
Folders get their metadata after everything inside them, in post-order.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.names import unquote_name
from cdr_plugin.model.trees import Node, check_name
from cdr_plugin.reporter import Reporter
from cdr_plugin.restore.contents import read_back
from cdr_plugin.restore.files import FileWriter
from cdr_plugin.restore.folders import Folder, Folders
from cdr_plugin.restore.metadata import Metadata, apply_to_fd
from cdr_plugin.restore.nodes import make_node
from cdr_plugin.restore.options import RestoreOptions, RestoreSummary
from cdr_plugin.restore.pending import PendingFile
from cdr_plugin.restore.placing import Places, Verdict
from cdr_plugin.restore.selection import Selection
from cdr_plugin.restore.tally import Tally, display
from cdr_plugin.restore.trees import Trees

WINDOW_FILES = 1 << 17
"""About 500 bytes each. A pack holds about 1600 files of 10 KB, so few packs are read twice."""
WINDOW_BLOBS = 1 << 19
"""About 250 bytes each: half a terabyte of big files."""
MAX_DEPTH = 4096
"""Deeper than any path that a kernel accepts; a hostile tree must not eat descriptors and time."""

_ITEM_ERRORS = (OSError, ValueError, OverflowError, NotFoundError, IntegrityError)
"""What costs one item. Other RemoteErrors mean that nothing can be read any more."""

_KINDS = frozenset({"file", "symlink", "fifo", "dev", "chardev"})
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_Inode: TypeAlias = tuple[str, int, int, bytes]
"""Type, device, inode and a digest of the content: names that share them are one file."""


class _Level:
    """A folder in the middle of the walk; ``nodes`` are those still to come, the next one last.
    ``metadata`` is None for the target itself."""

    __slots__ = ("folder", "metadata", "nodes", "seen")

    def __init__(self, folder: Folder, metadata: Metadata | None, nodes: list[Node]) -> None:
        self.folder = folder
        self.metadata = metadata
        self.nodes = nodes
        self.nodes.reverse()
        self.seen: set[bytes] = set()

    def siblings(self) -> Iterator[BlobId]:
        """Trees of the folders still to come."""
        for node in reversed(self.nodes):
            if node.subtree:
                yield _blob_id(node.subtree)

    def name_of(self, node: Node) -> bytes:
        """The raw name, once; FormatError when it is no name of a file, or comes again."""
        name = unquote_name(node.name)
        check_name(name)
        if name in self.seen:
            raise FormatError("the tree lists this name twice; the first one counts")
        self.seen.add(name)
        return name


class _Origin(NamedTuple):
    """The first name of a hard-linked file; ``file`` is None when it is complete already."""

    folder: Folder
    name: bytes
    file: PendingFile | None


class _Link(NamedTuple):
    """One more name of a file; made when the contents of its window are written."""

    folder: Folder
    name: bytes
    origin: _Origin
    mtime_ns: int


def restore(reader: RepositoryReader, root_tree: BlobId, options: RestoreOptions, reporter: Reporter) -> RestoreSummary:
    """Restore the tree into ``options.target``.

    Items that cannot be restored are reported one by one and counted in ``errors``; the rest goes
    on. Raises UserError for an unusable target or pattern, StorageFullError when the target is
    full, RemoteError when the repository cannot be reached, NotFoundError or IntegrityError when
    the root tree itself cannot be read. Whatever happens, no incomplete file has its final name.
    """
    tally = Tally(reporter)
    selection = Selection(options.include, options.exclude)
    trees = Trees(reader)
    nodes = trees.load(root_tree, iter(()))
    with Folders(options.target) as folders:
        places = Places(options.overwrite)
        flags = {"verify": options.verify, "sparse": options.sparse}
        with FileWriter(reader, folders, places, tally, **flags) as files:
            _Restore(reader, trees, selection, folders, places, files, tally).walk(nodes)
    return tally.finish()


class _Restore:
    """One run of ``restore``."""

    def __init__(
        self,
        reader: RepositoryReader,
        trees: Trees,
        selection: Selection,
        folders: Folders,
        places: Places,
        files: FileWriter,
        tally: Tally,
    ) -> None:
        self._reader = reader
        self._trees = trees
        self._selection = selection
        self._folders = folders
        self._places = places
        self._files = files
        self._tally = tally
        self._stack: list[_Level] = []
        self._waiting: list[PendingFile] = []
        self._waiting_blobs = 0
        self._links: list[_Link] = []
        self._left: list[tuple[Folder, Metadata]] = []
        self._origins: dict[_Inode, _Origin] = {}

    def walk(self, nodes: list[Node]) -> None:
        """Restore everything below the target. A loop over a stack: trees may be deep."""
        self._stack.append(_Level(self._folders.root, None, nodes))
        while self._stack:
            level = self._stack[-1]
            if level.nodes:
                self._visit(level, level.nodes.pop())
                if len(self._waiting) >= WINDOW_FILES or self._waiting_blobs >= WINDOW_BLOBS:
                    self._flush()
            else:
                self._leave(self._stack.pop())
        self._flush()

    def _visit(self, level: _Level, node: Node) -> None:
        try:
            name = level.name_of(node)
        except FormatError as error:
            self._tally.failed(level.folder, node.name[:255].encode("utf-8", "replace"), error)
            return
        wanted, below = self._selection.wants(level.folder, name)
        try:
            if node.type == "dir":
                if below:
                    self._enter(level, name, node, wanted)
            elif wanted and self._ready():
                self._plan(level.folder, name, node)
        except _ITEM_ERRORS as error:
            self._tally.failed(level.folder, name, error)

    # --- folders --------------------------------------------------------------------------------

    def _enter(self, level: _Level, name: bytes, node: Node, wanted: bool) -> None:
        if level.folder.depth >= MAX_DEPTH:
            raise FormatError(f"more than {MAX_DEPTH} folders deep; not restored")
        metadata = Metadata(node)
        id_ = _blob_id(node.subtree)
        try:
            nodes = self._trees.load(id_, level.siblings())
        except (NotFoundError, IntegrityError) as error:
            # The folder itself is known from its parent, so it is still made.
            self._tally.failed(level.folder, name, f"tree {id_.hex()[:10]}, what is inside, is lost: {error}")
            nodes = []
        self._stack.append(_Level(Folder(level.folder, name), metadata, nodes))
        if wanted:
            self._ready()

    def _ready(self) -> bool:
        """Make the folder where the walk is, with parents that nobody asked for until now. When
        one cannot be made, what is below it is passed over."""
        if self._stack[-1].folder.ready:
            return True
        for number, level in enumerate(self._stack):
            if not level.folder.ready:
                try:
                    self._folders.make(level.folder)
                except OSError as error:
                    self._fail_folder(level.folder, error)
                    for lower in self._stack[number:]:
                        lower.nodes.clear()
                    return False
        return True

    def _leave(self, level: _Level) -> None:
        if level.metadata is not None and level.folder.ready:
            self._tally.found(0)
            self._left.append((level.folder, level.metadata))

    def _finish_folder(self, folder: Folder, metadata: Metadata) -> None:
        try:
            fd = self._folders.fd(folder)
            self._tally.attributes(apply_to_fd(fd, metadata, clean=folder.inherits or not folder.fresh))
            self._tally.restored()
        except _ITEM_ERRORS as error:
            self._fail_folder(folder, error)
        self._folders.forget(folder)

    def _fail_folder(self, folder: Folder, error: Exception) -> None:
        assert folder.parent is not None
        self._tally.failed(folder.parent, folder.name, error)

    # --- everything else ------------------------------------------------------------------------

    def _plan(self, folder: Folder, name: bytes, node: Node) -> None:
        if node.type == "socket":
            self._tally.note(folder, name, "sockets are not restored; their program makes them anew")
            return
        if node.type not in _KINDS:
            raise FormatError(f"is of unknown type {node.type[:20]!r}; not restored")
        metadata = Metadata(node)
        inode = _inode(node)
        origin = self._origins.get(inode) if inode else None
        if origin is not None:
            self._tally.found(0)
            self._links.append(_Link(folder, name, origin, metadata.mtime_ns))
        elif node.type == "file":
            self._plan_file(folder, name, node, metadata, inode)
        else:
            self._make_node(folder, name, node, metadata, inode)

    def _plan_file(self, folder: Folder, name: bytes, node: Node, metadata: Metadata, inode: _Inode | None) -> None:
        if node.content is None:
            raise FormatError("has no content list; not restored")
        file = PendingFile(folder, name, node.size, [_blob_id(id_) for id_ in node.content], metadata)
        self._tally.found(file.size)
        found = self._places.existing(self._folders.fd(folder), folder, name)
        verdict = self._places.decide(found, metadata.mtime_ns, file.size)
        if verdict is Verdict.SKIP or (verdict is Verdict.COMPARE and self._mend(file)):
            self._tally.skipped(file.size)
            if inode and found and (found.st_size, found.st_mtime_ns) == (file.size, metadata.mtime_ns):
                # Left by an earlier run: the other names join it instead of a second copy.
                self._origins[inode] = _Origin(folder, name, None)
            return
        if inode:
            self._origins[inode] = _Origin(folder, name, file)
        if not file.ids:
            self._files.write_empty(file)
        else:
            self._waiting.append(file)
            self._waiting_blobs += len(file.ids)

    def _mend(self, file: PendingFile) -> bool:
        """Apply the metadata to an existing file of the right content; False when it has another."""
        fd = os.open(file.name, _LOOK, dir_fd=self._folders.fd(file.folder))
        try:
            if os.fstat(fd).st_mtime_ns != file.metadata.mtime_ns and not self._same_content(file, fd):
                return False
            self._tally.attributes(apply_to_fd(fd, file.metadata, clean=True))
            return True
        finally:
            os.close(fd)

    def _same_content(self, file: PendingFile, fd: int) -> bool:
        sizes = self._reader.sizes(BlobType.DATA, file.ids) if len(file.ids) > 1 else ()
        try:
            read_back(fd, file.size, file.ids, dict(zip(file.ids, sizes, strict=False)))
        except IntegrityError:
            return False
        return True

    def _make_node(self, folder: Folder, name: bytes, node: Node, metadata: Metadata, inode: _Inode | None) -> None:
        self._tally.found(0)
        found = self._places.existing(self._folders.fd(folder), folder, name)
        if self._places.decide(found, metadata.mtime_ns, None) is Verdict.SKIP:
            self._tally.skipped(0)
            return
        self._tally.attributes(make_node(self._folders, self._places, folder, name, node, metadata))
        self._tally.restored()
        if inode:
            self._origins[inode] = _Origin(folder, name, None)

    # --- the end of a window --------------------------------------------------------------------

    def _flush(self) -> None:
        self._files.write(self._waiting)
        for link in self._links:
            self._link(link)
        for folder, metadata in self._left:
            self._finish_folder(folder, metadata)
        self._waiting.clear()
        self._waiting_blobs = 0
        self._links.clear()
        self._left.clear()

    def _link(self, link: _Link) -> None:
        origin = link.origin
        try:
            if origin.file is not None and not origin.file.done:
                path = display(origin.folder, origin.name)
                raise NotFoundError(f"is a hard link to {path}, which was not restored")
            found = self._places.existing(self._folders.fd(link.folder), link.folder, link.name)
            if self._places.decide(found, link.mtime_ns, None) is Verdict.SKIP:
                self._tally.skipped(0)
                return
            source_fd = os.dup(self._folders.fd(origin.folder))
            try:
                fd = self._folders.fd(link.folder)
                self._places.link(source_fd, origin.name, fd, link.folder, link.name)
            finally:
                os.close(source_fd)
            self._tally.restored()
        except _ITEM_ERRORS as error:
            self._tally.failed(link.folder, link.name, error)


def _inode(node: Node) -> _Inode | None:
    """What names of the same file share; None for a file with one name. The content takes part:
    an inode number that was used again while the backup ran must not join two files."""
    if node.links < 2 or not node.inode:
        return None
    content = blake2b("".join(node.content or ()).encode(), digest_size=16).digest()
    return node.type, node.device_id, node.inode, content


def _blob_id(text: str) -> BlobId:
    try:
        id_ = bytes.fromhex(text)
    except ValueError:
        id_ = b""
    if len(id_) != 32:
        raise FormatError(f"names a blob {text[:80]!r}, which is no ID; not restored")
    return BlobId(id_)
