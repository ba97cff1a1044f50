"""The blobs that catalogs name, by the keys of the baseline, in 55 to 65 bytes each."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.archiver.catalog import CatalogReader
from cdr_plugin.baseline.table import KEY_BYTES, Entry
from cdr_plugin.kernel import BLOB_RECORD, BlobTable
from cdr_plugin.model.blobs import BlobId, BlobType

_ID = 32
_BATCH_BYTES = 8192 * _ID
_REST = bytes(_ID - KEY_BYTES)


class LiveBlobs:
    """Says of each entry once whether it is worth keeping."""

    def __init__(self) -> None:
        self._table = BlobTable()
        self._taken = bytearray()

    def add(self, catalog: CatalogReader) -> None:
        """All blobs that a catalog names."""
        content, trees = bytearray(), bytearray()
        for record in catalog:
            content += record.content
            trees += record.tree
            if len(content) + len(trees) >= _BATCH_BYTES:
                self._add(BlobType.DATA, content)
                self._add(BlobType.TREE, trees)
                content, trees = bytearray(), bytearray()
        self._add(BlobType.DATA, content)
        self._add(BlobType.TREE, trees)

    def _add(self, type_: BlobType, ids: bytearray) -> None:
        """Rows of their keys, spread byte by byte of all IDs at once, which takes no time per blob."""
        count = len(ids) // _ID
        rows = bytearray(count * BLOB_RECORD.size)
        rows[:: BLOB_RECORD.size] = bytes((type_,)) * count
        for at in range(KEY_BYTES):
            rows[1 + at :: BLOB_RECORD.size] = ids[at::_ID]
        self._table.add_rows(rows)

    def take(self, entries: Iterable[Entry], number: int) -> Iterable[Entry]:
        """Those of a live blob that no table of another number (1 to 255) had; ask after the last ``add``."""
        if not self._taken:
            self._taken = bytearray(len(self._table))
        for entry in entries:
            row = self._table.find(entry.type, BlobId(entry.key + _REST))
            if row >= 0 and self._taken[row] in (0, number):
                self._taken[row] = number
                yield entry
