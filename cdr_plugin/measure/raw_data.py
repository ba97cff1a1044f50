"""What the blobs that versions reach take in the repository, each blob once."""

from __future__ import annotations

from collections.abc import Sequence

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import NotFoundError
from cdr_plugin.measure.totals import Totals
from cdr_plugin.measure.trees import Numbered, read_trees
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import blob_id_of

_BATCH_BLOBS = 65536


def raw_data(reader: RepositoryReader, roots: Sequence[BlobId]) -> Totals:
    """NotFoundError when a blob is missing."""
    trees, data = Numbered(BlobType.TREE), Numbered(BlobType.DATA)
    for tree in read_trees(reader, roots, trees):
        for node in tree.nodes:
            for text in node.content or ():
                data.add(blob_id_of(text))
    totals = Totals(snapshots_count=len(roots), total_blob_count=len(trees) + len(data))
    for type_, blobs in ((BlobType.TREE, trees), (BlobType.DATA, data)):
        for ids in blobs.batches(_BATCH_BLOBS):
            _add_stored(totals, reader, type_, ids)
    return totals


def _add_stored(totals: Totals, reader: RepositoryReader, type_: BlobType, ids: Sequence[BlobId]) -> None:
    for id_, size in zip(ids, reader.stored_sizes(type_, ids), strict=True):
        if size is None:
            what = f"{type_.name.lower()} blob {id_.hex()[:10]}"
            raise NotFoundError(f"{what} is not in the repository; see 'cdr check'")
        totals.total_size += size.stored
        totals.total_uncompressed_size += size.uncompressed
        if size.is_compressed:
            totals.compressed_size += size.stored
            totals.compressed_uncompressed_size += size.uncompressed
