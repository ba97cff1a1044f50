"""Everything but folders: decides about each item of a version, and makes it or lets it wait for its window.

Files with content and further names of files wait; ``flush`` writes the contents in one reading of
the packs, then makes the names.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.model.trees import Node, blob_id_of
from cdr_plugin.restore.contents import read_back
from cdr_plugin.restore.folders import Folder
from cdr_plugin.restore.metadata import Metadata, apply_to_fd
from cdr_plugin.restore.nodes import make_node
from cdr_plugin.restore.options import Overwrite
from cdr_plugin.restore.pending import PendingFile
from cdr_plugin.restore.placing import Verdict
from cdr_plugin.restore.tally import display
from cdr_plugin.restore.tools import Tools
from cdr_plugin.restore.walk import Inode, inode_of

ITEM_ERRORS = (OSError, ValueError, OverflowError, NotFoundError, IntegrityError)
"""What costs one item. Other RemoteErrors mean that nothing can be read any more."""

_KINDS = frozenset({"file", "symlink", "fifo", "dev", "chardev"})
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Origin(NamedTuple):
    """The first name of a hard-linked file; ``file`` is None when it is complete already."""

    folder: Folder
    name: bytes
    file: PendingFile | None


class _Link(NamedTuple):
    """One more name of a file."""

    folder: Folder
    name: bytes
    origin: _Origin
    mtime_ns: int


class Items:
    """The items of one restore. ``waiting`` and ``waiting_blobs`` count what ``flush`` will do."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._dry_run = tools.options.dry_run
        self._files: list[PendingFile] = []
        self._links: list[_Link] = []
        self._origins: dict[Inode, _Origin] = {}
        self.waiting_blobs = 0

    @property
    def waiting(self) -> int:
        return len(self._files) + len(self._links)

    def plan(self, folder: Folder, name: bytes, node: Node) -> None:
        """Make an item of a folder that exists, or let it wait; ``ITEM_ERRORS``."""
        if node.type == "socket":
            self._tools.tally.note(folder, name, "sockets are not restored; their program makes them anew")
            return
        if node.type not in _KINDS:
            raise FormatError(f"is of unknown type {node.type[:20]!r}; not restored")
        metadata = Metadata(node, self._tools.rules)
        inode = inode_of(node)
        origin = self._origins.get(inode) if inode else None
        if origin is not None:
            self._tools.tally.found(0)
            self._links.append(_Link(folder, name, origin, metadata.mtime_ns))
        elif node.type == "file":
            self._plan_file(folder, name, node, metadata, inode)
        else:
            self._make_node(folder, name, node, metadata, inode)

    def _plan_file(self, folder: Folder, name: bytes, node: Node, metadata: Metadata, inode: Inode | None) -> None:
        if node.content is None:
            raise FormatError("has no content list; not restored")
        file = PendingFile(folder, name, node.size, [blob_id_of(id_) for id_ in node.content], metadata)
        self._tools.tally.found(file.size)
        found = self._existing(folder, name)
        verdict = self._tools.places.decide(found, metadata.mtime_ns, file.size)
        if verdict is Verdict.SKIP or (verdict is Verdict.COMPARE and self._mend(file)):
            self._tools.tally.skipped(folder, name, file.size)
            if inode and found and (found.st_size, found.st_mtime_ns) == (file.size, metadata.mtime_ns):
                # Left by an earlier run: the other names join it instead of a second copy.
                self._origins[inode] = _Origin(folder, name, None)
            return
        if inode:
            self._origins[inode] = _Origin(folder, name, file)
        file.existed = found is not None
        self._make_room(folder, name, found)
        self._write(file)

    def _write(self, file: PendingFile) -> None:
        if self._dry_run:
            file.done = True
            self._tools.tally.wrote(file.size)
            self._tools.tally.restored(file.folder, file.name, file.size, existed=file.existed)
        elif not file.ids:
            self._tools.files.write_empty(file)
        else:
            self._files.append(file)
            self.waiting_blobs += len(file.ids)

    def _existing(self, folder: Folder, name: bytes) -> os.stat_result | None:
        """What is at a place; nothing can be in a folder that we made."""
        return None if folder.fresh else self._tools.places.existing(self._tools.folders.fd(folder), name)

    def _make_room(self, folder: Folder, name: bytes, found: os.stat_result | None) -> None:
        """Remove a folder at the place of an item. Early, but what is there is to be deleted anyway."""
        if found is not None and stat.S_ISDIR(found.st_mode) and not self._tools.remover.remove(folder, name):
            raise IsADirectoryError("is a folder in the target, and not all of it may be deleted; not restored")

    def _mend(self, file: PendingFile) -> bool:
        """Apply the metadata to an existing file of the right content; False when it has another."""
        fd = os.open(file.name, _LOOK, dir_fd=self._tools.folders.fd(file.folder))
        try:
            trusted = self._tools.options.overwrite is Overwrite.IF_CHANGED
            same_time = os.fstat(fd).st_mtime_ns == file.metadata.mtime_ns
            if not (trusted and same_time) and not self._same_content(file, fd):
                return False
            if not self._dry_run:
                self._tools.tally.applied(file.folder, file.name, apply_to_fd(fd, file.metadata, clean=True))
            return True
        finally:
            os.close(fd)

    def _same_content(self, file: PendingFile, fd: int) -> bool:
        sizes = self._tools.reader.sizes(BlobType.DATA, file.ids) if len(file.ids) > 1 else ()
        try:
            read_back(fd, file.size, file.ids, dict(zip(file.ids, sizes, strict=False)))
        except IntegrityError:
            return False
        return True

    def _make_node(self, folder: Folder, name: bytes, node: Node, metadata: Metadata, inode: Inode | None) -> None:
        tools = self._tools
        tools.tally.found(0)
        found = self._existing(folder, name)
        if tools.places.decide(found, metadata.mtime_ns, None) is Verdict.SKIP:
            tools.tally.skipped(folder, name, 0)
            return
        self._make_room(folder, name, found)
        if inode:
            self._origins[inode] = _Origin(folder, name, None)
        applied = None
        if not self._dry_run:
            applied = make_node(tools.folders, tools.places, folder, name, node, metadata)
        tools.tally.restored(folder, name, existed=found is not None)
        if applied is not None:
            tools.tally.applied(folder, name, applied)

    def flush(self) -> None:
        """Write all contents that wait, then make the further names."""
        self._tools.files.write(self._files)
        for link in self._links:
            try:
                self._link(link)
            except ITEM_ERRORS as error:
                self._tools.tally.failed(link.folder, link.name, error)
        self._files.clear()
        self._links.clear()
        self.waiting_blobs = 0

    def _link(self, link: _Link) -> None:
        tools, origin = self._tools, link.origin
        if origin.file is not None and not origin.file.done:
            path = display(origin.folder, origin.name)
            raise NotFoundError(f"is a hard link to {path}, which was not restored")
        found = self._existing(link.folder, link.name)
        if tools.places.decide(found, link.mtime_ns, None) is Verdict.SKIP:
            tools.tally.skipped(link.folder, link.name, 0)
            return
        self._make_room(link.folder, link.name, found)
        if not self._dry_run:
            source_fd = os.dup(tools.folders.fd(origin.folder))
            try:
                fd = tools.folders.fd(link.folder)
                tools.places.link(source_fd, origin.name, fd, link.folder, link.name)
            finally:
                os.close(source_fd)
        tools.tally.restored(link.folder, link.name, existed=found is not None)
