"""Files that differ: by their contents, or by contents and path."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import NotFoundError
from cdr_plugin.measure.totals import Totals
from cdr_plugin.measure.trees import Numbered, ReadTree, read_trees
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, blob_id_of


def files_by_contents(reader: RepositoryReader, roots: Sequence[BlobId]) -> Totals:
    """Files with the same list of blobs are one file; all entries without any are one, too."""
    totals = Totals(snapshots_count=len(roots))
    contents = Numbered(BlobType.DATA)
    for tree in read_trees(reader, roots, Numbered(BlobType.TREE)):
        for node in tree.nodes:
            if contents.add(_content_key(node)):
                totals.total_file_count += 1
                totals.total_size += node.size
    return totals


def blobs_per_file(reader: RepositoryReader, roots: Sequence[BlobId]) -> Totals:
    """What storing each file on its own, without its repetitions, would take: blobs count once for each
    path. Of files with the same contents one is counted; which of them, if several versions have
    different ones at the same path, is left open, as in restic."""
    totals = Totals(snapshots_count=len(roots))
    contents, paths, uses = (Numbered(BlobType.DATA) for _ in range(3))
    for tree in read_trees(reader, roots, Numbered(BlobType.TREE), _path_key):
        found: list[BlobId] = []
        for node in tree.nodes:
            if node.content and contents.add(_content_key(node)):
                path = _path_key(tree, node)
                totals.total_file_count += paths.add(BlobId(path))
                ids = map(blob_id_of, node.content)
                found += [id_ for id_ in ids if uses.add(BlobId(sha256(path + id_).digest()))]
        totals.total_blob_count += len(found)
        totals.total_size += _bytes_of(reader, found)
    return totals


def _content_key(node: Node) -> BlobId:
    return BlobId(sha256("".join(node.content or ()).encode()).digest())


def _path_key(tree: ReadTree, node: Node) -> bytes:
    """32 bytes that stand for a path, which may be long: made of those of the folder, and the name."""
    return sha256(tree.note + node.name.encode("utf-8", "surrogatepass")).digest()


def _bytes_of(reader: RepositoryReader, ids: Sequence[BlobId]) -> int:
    total = 0
    for id_, size in zip(ids, reader.sizes(BlobType.DATA, ids), strict=True):
        if size is None:
            raise NotFoundError(f"data blob {id_.hex()[:10]} is not in the repository; see 'cdr check'")
        total += size
    return total
