"""Snapshots and trees: everything that they name must be there and make sense."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import msgspec

from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError, RemoteError
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.model.names import unquote_name
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import NODE_TYPES, check_name
from cdr_plugin.model.versions import decode_snapshot
from cdr_restic.care.check_reading import ID_BYTES, TreeStack, read_each
from cdr_restic.care.check_report import Findings
from cdr_restic.files import SealedFiles
from cdr_restic.index import MemoryIndex
from cdr_restic.reading import ResticReader
from cdr_restic.storage import FileKind

USED = 1
"""The flag of the first row of a blob that some version reaches."""

_Id = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


class TreeNode(msgspec.Struct):
    """Of a node what a check looks at; as lenient as restic."""

    name: str = ""
    type: str = ""
    content: list[_Id] | None = None
    subtree: _Id | None = None


class _Tree(msgspec.Struct):
    nodes: list[TreeNode] | None


_decoder = msgspec.json.Decoder(_Tree)


def parse_tree(data: bytes) -> list[TreeNode]:
    """FormatError."""
    try:
        return _decoder.decode(data).nodes or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(str(error)) from None


def raw_ids(texts: list[str]) -> bytes:
    """IDs end to end; FormatError."""
    try:
        raw = bytes.fromhex("".join(texts))
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES * len(texts):  # fromhex skips spaces
        raise FormatError("it names a blob by something that is no ID")
    return raw


def load_snapshots(files: SealedFiles, findings: Findings) -> list[tuple[str, bytes]]:
    """Name and tree of every snapshot that can be loaded, oldest first."""
    found = []
    for name in files.storage.list(FileKind.SNAPSHOTS):
        try:
            snapshot = decode_snapshot(files.load(FileKind.SNAPSHOTS, name))
            found.append((parse_time(snapshot.time), name, raw_ids([snapshot.tree])))
        except FormatError as error:
            findings.error(str(files.damaged(FileKind.SNAPSHOTS, name, error)))
        except (IntegrityError, NotFoundError) as error:
            findings.error(str(error))
    return [(name, tree) for _, name, tree in sorted(found)]


class TreeCheck:
    """Walks every tree once and marks in ``flags`` what it reaches."""

    def __init__(self, index: MemoryIndex, reader: ResticReader, findings: Findings) -> None:
        self.flags = index.new_flags()
        self.trees = 0
        self._index = index
        self._reader = reader
        self._findings = findings
        self._waiting = TreeStack(index)

    def run(self, snapshots: list[tuple[str, bytes]]) -> None:
        for name, tree in snapshots:
            self._reach(tree, f"snapshot {name[:10]}")
        while self._waiting:
            for id_, data in read_each(self._reader, self._waiting.pop_batch()):
                self.trees += 1
                self._findings.reporter.progress(action="checking trees", trees=self.trees)
                self._check(id_, data)

    def _check(self, id_: bytes, data: bytes | IntegrityError | RemoteError) -> None:
        if not isinstance(data, bytes):
            self._unreadable(id_, data)
            return
        try:
            nodes = parse_tree(data)
            self._reach_all(id_, nodes)
        except FormatError as error:
            self._findings.error(f"tree {id_.hex()} is no tree: {error}", blobs=[(BlobType.TREE, id_)])
            return
        for node in nodes:
            problem = _problem(node)
            if problem:
                self._findings.error(f"tree {id_.hex()}: {_shown(node)} {problem}")
        _hint_names(id_, nodes, self._findings)

    def _unreadable(self, id_: bytes, error: Exception) -> None:
        place = self._index.find(BlobType.TREE, id_)
        pack = self._index.pack_name(place.pack) if place else ""
        if pack in self._findings.report.broken_packs:
            self._findings.damage(BlobType.TREE, id_, pack)
        else:
            self._findings.error(f"tree {id_.hex()} cannot be read: {error}", pack=pack, blobs=[(BlobType.TREE, id_)])

    def _reach_all(self, id_: bytes, nodes: list[TreeNode]) -> None:
        content = raw_ids([blob for node in nodes if node.content for blob in node.content])
        subtrees = [(node, raw_ids([node.subtree])) for node in nodes if node.type == "dir" and node.subtree]
        missing = self._index.mark(BlobType.DATA, content, self.flags, USED)
        if missing:
            self._report_missing(id_, nodes, set(missing))
        for node, tree in subtrees:
            self._reach(tree, f"tree {id_.hex()}: {_shown(node)}")

    def _reach(self, tree: bytes, whose: str) -> None:
        row = self._index.row(BlobType.TREE, tree)
        if row < 0:
            blobs = [(BlobType.TREE, tree)]
            self._findings.error(f"{whose} names tree {tree.hex()}, which is in no index", blobs=blobs)
        elif not self.flags[row]:
            self.flags[row] = USED
            self._waiting.push(tree)

    def _report_missing(self, id_: bytes, nodes: list[TreeNode], missing: set[bytes]) -> None:
        for node in nodes:
            lost = dict.fromkeys(bytes.fromhex(text) for text in node.content or ())
            blobs = [(BlobType.DATA, blob) for blob in lost if blob in missing]
            if blobs:
                first = blobs[0][1].hex()
                more = f" and {len(blobs) - 1} more" if len(blobs) > 1 else ""
                text = f"tree {id_.hex()}: {_shown(node)} needs data blob {first}{more}, in no index"
                self._findings.error(text, blobs=blobs)


def _problem(node: TreeNode) -> str:
    """What restic's check calls an error."""
    if not node.name:
        return "has no name"
    if node.type == "file":
        return "has no list of blobs" if node.content is None else ""
    if node.type == "dir":
        return "" if node.subtree else "has no tree"
    return "" if node.type in NODE_TYPES else f"is of the unknown type {node.type[:20]!r}"


def _shown(node: TreeNode) -> str:
    return f"{node.type[:20] or 'entry'} {node.name[:200]!r}"


def _hint_names(id_: bytes, nodes: list[TreeNode], findings: Findings) -> None:
    """What restic does not notice, and trips over later."""
    try:
        names = [unquote_name(node.name) if "\\" in node.name else node.name.encode() for node in nodes]
        for name in names:
            if name[:1] == b"." or b"/" in name or b"\0" in name:
                check_name(name)
    except (FormatError, UnicodeEncodeError) as error:
        findings.hint(f"tree {id_.hex()}: {error}; restoring leaves such an entry out")
        return
    if any(name >= following for name, following in pairwise(names)):
        findings.hint(f"tree {id_.hex()}: its entries are not in ascending order, or one is there twice")
