"""Which files of which versions lost blobs hit.

Two passes over trees: one over all, for who names whom, which tells the trees that reach a lost blob; one over
these, from the roots down, which gives paths. Neither grows with the number of versions times files:
a tree that many versions share is looked at once, with a few of the paths that lead to it and their number.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.names import unquote_name
from cdr_restic.care.check_reading import TreeStack, read_each
from cdr_restic.care.check_trees import TreeNode, parse_tree, raw_ids
from cdr_restic.index import MemoryIndex
from cdr_restic.reading import ResticReader

SHOWN = 10
"""Files that are named for each blob, and ways that are remembered to each tree."""

Blob = tuple[BlobType, bytes]
"""Type and ID."""


@dataclass(slots=True)
class Hit:
    """Where a lost blob is missed: the first few files (``1a2b3c4d:/path``), and how many there are in
    all; the same file in two versions is two."""

    files: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, paths: Iterable[str], count: int) -> None:
        self.count += count
        self.files += list(paths)[: SHOWN - len(self.files)]


def files_hit(
    index: MemoryIndex, reader: ResticReader, versions: Sequence[tuple[str, bytes]], lost: Collection[Blob]
) -> dict[Blob, Hit]:
    """For each blob of ``lost`` the files, or folders, of ``versions`` (ID in hex, root tree) that need it.

    Blobs that no version needs are left out. A tree that cannot be read counts as lost if it is in
    ``lost``, and else as empty. Takes 8 bytes for each entry of all trees that is a folder.
    """
    wanted = {blob: Hit() for blob in lost}
    if not wanted:
        return {}
    links = _Links(index, reader, wanted)
    tainted = links.tainted(tree for _, tree in versions)
    _Paths(index, reader, wanted, links, tainted).follow(versions)
    return {blob: hit for blob, hit in wanted.items() if hit.count}


def _children(node: TreeNode) -> bytes:
    return raw_ids([node.subtree]) if node.type == "dir" and node.subtree else b""


def _plain_name(node: TreeNode) -> str:
    try:
        return os.fsdecode(unquote_name(node.name))
    except FormatError:
        return node.name


def _nodes(reader: ResticReader, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, list[TreeNode]]]:
    for id_, data in read_each(reader, ids):
        try:
            nodes = parse_tree(data) if isinstance(data, bytes) else []
            # Whatever names no blob properly was reported before.
            [raw_ids(node.content) for node in nodes if node.content]
            [_children(node) for node in nodes]
        except FormatError:
            nodes = []
        yield id_, nodes


class _Links:
    """Which tree is in which, as pairs of rows."""

    def __init__(self, index: MemoryIndex, reader: ResticReader, lost: Collection[Blob]) -> None:
        self._index = index
        self._reader = reader
        self._lost = lost
        self._inner = array("I")
        self._outer = array("I")
        self._waiting = TreeStack(index)
        self._seen = index.new_flags()

    def tainted(self, roots: Iterable[bytes]) -> bytearray:
        """A flag for each row: whether the tree there reaches a lost blob."""
        tainted = self._index.new_flags()
        for root in roots:
            self._push(root)
        while self._waiting:
            for id_, nodes in _nodes(self._reader, self._waiting.pop_batch()):
                row = self._index.row(BlobType.TREE, id_)
                tainted[row] = self._is_hit(nodes)
                self._link(row, nodes)
        self._spread(tainted)
        return tainted

    def _push(self, tree: bytes) -> int:
        row = self._index.row(BlobType.TREE, tree)
        if row >= 0 and not self._seen[row]:
            self._seen[row] = 1
            self._waiting.push(tree)
        return row

    def _is_hit(self, nodes: list[TreeNode]) -> bool:
        return any((BlobType.TREE, _children(node)) in self._lost for node in nodes) or any(
            (BlobType.DATA, bytes.fromhex(text)) in self._lost for node in nodes for text in node.content or ()
        )

    def _link(self, row: int, nodes: list[TreeNode]) -> None:
        for tree in filter(None, map(_children, nodes)):
            inner = self._push(tree)
            if inner >= 0:
                self._inner.append(inner)
                self._outer.append(row)

    def entries(self, chosen: bytearray) -> Iterator[int]:
        """The row of the inner tree for each entry of a chosen tree that names a chosen one."""
        pairs = zip(self._inner, self._outer, strict=True)
        return (inner for inner, outer in pairs if chosen[inner] and chosen[outer])

    def _spread(self, tainted: bytearray) -> None:
        """Upwards, a level each time: as many rounds as folders are deep."""
        changed = True
        while changed:
            changed = False
            for inner, outer in zip(self._inner, self._outer, strict=True):
                if tainted[inner] and not tainted[outer]:
                    tainted[outer] = changed = True


@dataclass(slots=True)
class _Ways:
    """How versions come to a tree: the first few paths, and their number; ``pending`` trees that name it
    are still to be followed."""

    paths: list[str] = field(default_factory=list)
    count: int = 0
    pending: int = 0


class _Paths:
    """Follows tainted trees from the roots down, each once all that name it have been followed."""

    def __init__(
        self, index: MemoryIndex, reader: ResticReader, hits: dict[Blob, Hit], links: _Links, tainted: bytearray
    ) -> None:
        self._index = index
        self._reader = reader
        self._hits = hits
        self._links = links
        self._tainted = tainted
        self._ways: dict[int, _Ways] = {}

    def follow(self, versions: Sequence[tuple[str, bytes]]) -> None:
        for name, tree in versions:
            self._arrive(tree, [f"{name[:8]}:"], 1)
        for inner in self._links.entries(self._tainted):
            self._ways.setdefault(inner, _Ways()).pending += 1
        ready = TreeStack(self._index)
        for tree in {tree for _, tree in versions}:
            self._push_if_ready(ready, tree)
        while ready:
            for id_, nodes in _nodes(self._reader, ready.pop_batch()):
                ways = self._ways.pop(self._index.row(BlobType.TREE, id_))
                for node in nodes:
                    self._follow_node(node, ways, ready)

    def _arrive(self, tree: bytes, paths: list[str], count: int) -> None:
        """These ways lead to ``tree``; a lost one is hit itself."""
        hit = self._hits.get((BlobType.TREE, tree))
        if hit is not None:
            hit.add([path + "/" if path.endswith(":") else path for path in paths], count)
        row = self._index.row(BlobType.TREE, tree)
        if row >= 0 and self._tainted[row]:
            ways = self._ways.setdefault(row, _Ways())
            ways.count += count
            ways.paths += paths[: SHOWN - len(ways.paths)]

    def _push_if_ready(self, ready: TreeStack, tree: bytes) -> None:
        ways = self._ways.get(self._index.row(BlobType.TREE, tree))
        if ways is not None and not ways.pending:
            ready.push(tree)

    def _follow_node(self, node: TreeNode, ways: _Ways, ready: TreeStack) -> None:
        paths = [f"{path}/{_plain_name(node)}" for path in ways.paths]
        for text in dict.fromkeys(node.content or ()):
            hit = self._hits.get((BlobType.DATA, bytes.fromhex(text)))
            if hit is not None:
                hit.add(paths, ways.count)
        tree = _children(node)
        if not tree:
            return
        row = self._index.row(BlobType.TREE, tree)
        self._arrive(tree, paths, ways.count)
        if row >= 0 and self._tainted[row]:
            self._ways[row].pending -= 1
            self._push_if_ready(ready, tree)
