"""What restoring each version would write: every entry counts, hard links to one file once per version.

Trees are shared by versions, so each is read once, and what it adds up to is reckoned from what its
folders add up to. Only trees with hard links below them are gone through for every version.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.measure.totals import Totals
from cdr_plugin.measure.trees import Numbered, ReadTree, read_trees
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, blob_id_of


def restore_size(reader: RepositoryReader, roots: Sequence[BlobId]) -> Totals:
    """Of each of the versions with these root trees, added up."""
    trees = Numbered(BlobType.TREE)
    folders = _Folders()
    for tree in read_trees(reader, roots, trees):
        folders.add(trees, tree)
    totals = Totals(snapshots_count=len(roots))
    for root in roots:
        number = trees.number(root)
        folders.sum_up(number)
        totals.total_file_count += folders.files[number]
        totals.total_size += folders.bytes[number] + folders.bytes_of_links(number)
    return totals


class _Folders:
    """What is known of each tree by its number, about 150 bytes: own figures, then those of all below."""

    def __init__(self) -> None:
        self.files: list[int] = []
        self.bytes: list[int] = []
        self._children = array("I")
        self._start = array("Q")
        self._count = array("I")
        self._state = bytearray()
        self._links: dict[int, list[tuple[int, int, int]]] = {}

    def add(self, trees: Numbered, tree: ReadTree) -> None:
        self._grow(len(trees))
        number = trees.number(tree.id)
        children = [trees.number(blob_id_of(node.subtree)) for node in tree.nodes if node.subtree]
        links = [(node.inode, node.device_id, node.size) for node in tree.nodes if _is_hard_link(node)]
        self.files[number] = len(tree.nodes)
        self.bytes[number] = sum(node.size for node in tree.nodes if not _is_hard_link(node))
        self._start[number] = len(self._children)
        self._count[number] = len(children)
        self._children.extend(children)
        if links:
            self._links[number] = links
            self._state[number] = _HAS_LINKS

    def _grow(self, count: int) -> None:
        more = count - len(self.files)
        if more > 0:
            self.files.extend([0] * more)
            self.bytes.extend([0] * more)
            self._start.extend([0] * more)
            self._count.extend([0] * more)
            self._state.extend(bytes(more))

    def children(self, number: int) -> array[int]:
        start = self._start[number]
        return self._children[start : start + self._count[number]]

    def sum_up(self, root: int) -> None:
        """Add to every tree below ``root`` what its folders hold, the innermost first."""
        stack = [root]
        while stack:
            number = stack[-1]
            if self._state[number] & _SUMMED:
                stack.pop()
                continue
            children = self.children(number)
            unknown = [child for child in children if not self._state[child] & _SUMMED]
            if unknown:
                stack += unknown
                continue
            for child in children:
                self.files[number] += self.files[child]
                self.bytes[number] += self.bytes[child]
                self._state[number] |= self._state[child]
            self._state[number] |= _SUMMED

    def bytes_of_links(self, root: int) -> int:
        """Of the hard-linked files at and below ``root``, each once."""
        return sum({(inode, device): size for inode, device, size in self._links_below(root)}.values())

    def _links_below(self, root: int) -> Iterator[tuple[int, int, int]]:
        stack, seen = [root], {root}
        while stack:
            number = stack.pop()
            yield from self._links.get(number, ())
            for child in self.children(number):
                if self._state[child] & _HAS_LINKS and child not in seen:
                    seen.add(child)
                    stack.append(child)


_HAS_LINKS = 1
"""Here, or once it is summed up, here or below."""
_SUMMED = 2


def _is_hard_link(node: Node) -> bool:
    """One of several names of a file, as far as the tree tells."""
    return node.links > 1 and node.inode != 0 and not node.subtree
