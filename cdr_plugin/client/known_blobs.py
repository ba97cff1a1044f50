"""The blobs that need not be sent again, in memory."""

from __future__ import annotations

from collections.abc import Container, Iterable
from itertools import islice

from cdr_plugin.client.state import KEY_BYTES
from cdr_plugin.kernel import BLOB_RECORD, BlobTable
from cdr_plugin.model.blobs import BlobId, BlobType

_BATCH_KEYS = 8192
_NOWHERE = bytes(BLOB_RECORD.size - KEY_BYTES)
"""A key is how a blob record begins; whoever sends has no use for the place in the rest."""


class KnownBlobs(Container[bytes]):
    """A set of blobs that grows, from their keys (type byte and ID).

    Takes 53 to 61 bytes per blob where a Python set takes 100 to 140. Any number of threads may use it.
    """

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._table = BlobTable()
        source = iter(keys)
        while batch := b"".join([key + _NOWHERE for key in islice(source, _BATCH_KEYS)]):
            self._table.add_rows(batch)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, key: object) -> bool:
        """Whether the blob of this key is known."""
        return isinstance(key, bytes) and len(key) == KEY_BYTES and self._table.find(key[0], key[1:]) >= 0

    def add(self, type_: BlobType, id_: BlobId) -> bool:
        """False if it was known already."""
        return self._table.add(type_, id_, 0, 0, 0, 0)
