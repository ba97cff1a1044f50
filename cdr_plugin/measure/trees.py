"""Every tree of many versions, read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.kernel import BlobTable
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, blob_id_of, decode_tree

BATCH_TREES = 512
"""Read together: 512 trees are about 1 MB, and the repository sorts them by pack."""


class Numbered:
    """Blobs numbered from 0 in the order in which they came, at 64 bytes each."""

    def __init__(self, type_: BlobType) -> None:
        self._type = type_
        self._table = BlobTable()

    def __len__(self) -> int:
        return len(self._table)

    def add(self, id_: BlobId) -> bool:
        """Was it new?"""
        return self._table.add(self._type, id_, 0, 0, 0, 0)

    def number(self, id_: BlobId) -> int:
        """-1 for one that did not come."""
        return self._table.find(self._type, id_)

    def batches(self, size: int) -> Iterator[Sequence[BlobId]]:
        """All of them in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield [BlobId(self._table.get(row)[1]) for row in range(start, min(start + size, len(self)))]


class ReadTree(NamedTuple):
    """A tree, and what its finder noted about it."""

    id: BlobId
    nodes: list[Node]
    note: bytes


NoteFolder = Callable[[ReadTree, Node], bytes]
"""What to note about the tree of a folder, given the tree that holds the folder."""


def read_trees(
    reader: RepositoryReader,
    roots: Iterable[BlobId],
    trees: Numbered,
    note: NoteFolder = lambda tree, node: b"",
) -> Iterator[ReadTree]:
    """Each tree that ``roots`` reach and that ``trees`` does not hold yet, once, in no certain order;
    a tree's folders are in ``trees`` before the next tree comes.

    Waiting trees take about 200 bytes each. A tree that is missing or broken raises.
    """
    waiting = [(root, b"") for root in roots if trees.add(root)]
    while waiting:
        batch = dict(waiting[-BATCH_TREES:])
        del waiting[-BATCH_TREES:]
        for id_, data in reader.read_many(BlobType.TREE, list(batch)):
            tree = ReadTree(id_, decode_tree(data), batch[id_])
            for node in tree.nodes:
                if node.subtree:
                    subtree = blob_id_of(node.subtree)
                    if trees.add(subtree):
                        waiting.append((subtree, note(tree, node)))
            yield tree
