"""Reading a version back without writing it anywhere: every blob that it reaches, verified."""

from __future__ import annotations

from dataclasses import dataclass

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import content_ids, decode_tree, subtree_ids


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Distinct blobs that were read, and their plain bytes."""

    trees: int
    blobs: int
    bytes: int


def read_back(reader: RepositoryReader, root: BlobId) -> ReadBack:
    """Read everything below ``root``. NotFoundError or IntegrityError for the first that is not right."""
    seen: set[BlobId] = set()
    data: set[BlobId] = set()
    level = [root]
    size = 0
    while level:
        seen.update(level)
        below: set[BlobId] = set()
        for _, tree in reader.read_many(BlobType.TREE, level):
            size += len(tree)
            nodes = decode_tree(tree)
            data.update(map(BlobId, content_ids(nodes)))
            below.update(map(BlobId, subtree_ids(nodes)))
        level = sorted(below - seen)
    size += sum(len(blob) for _, blob in reader.read_many(BlobType.DATA, sorted(data)))
    return ReadBack(len(seen), len(data), size)
