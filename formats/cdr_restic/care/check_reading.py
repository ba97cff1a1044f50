"""Trees, each either read or refused: one that is damaged keeps nobody from reading the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdr_plugin.errors import IntegrityError, RemoteError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_restic.index import MemoryIndex
from cdr_restic.reading import ResticReader

ID_BYTES = 32
_BATCH_BYTES = 8 * 1024 * 1024
"""Of plaintext. Small, since a batch may be in memory at once."""
_BATCH_TREES = 2048


def read_each(
    reader: ResticReader, ids: Sequence[BlobId]
) -> Iterator[tuple[BlobId, bytes | IntegrityError | RemoteError]]:
    """Each tree once, in the order that is cheapest to read; the error where there is one."""
    left = dict.fromkeys(ids)
    try:
        for id_, data in reader.read_many(BlobType.TREE, ids):
            del left[id_]
            yield id_, data
    except (IntegrityError, RemoteError):
        # One of a run stands for all that were under way, so the rest is asked for one by one.
        for id_ in left:
            yield id_, _read(reader, id_)


def _read(reader: ResticReader, id_: BlobId) -> bytes | IntegrityError | RemoteError:
    try:
        return reader.read(BlobType.TREE, id_)
    except (IntegrityError, RemoteError) as error:
        return error


class TreeStack:
    """Trees that wait to be read, 32 bytes each; last in, first out, so it stays about as deep as the
    folders are."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index
        self._ids = bytearray()

    def __bool__(self) -> bool:
        return bool(self._ids)

    def push(self, id_: bytes) -> None:
        self._ids += id_

    def pop_batch(self) -> list[BlobId]:
        """As many as fit into 8 MB, at least one."""
        batch: list[BlobId] = []
        size = 0
        while self._ids and len(batch) < _BATCH_TREES:
            id_ = BlobId(bytes(self._ids[-ID_BYTES:]))
            place = self._index.find(BlobType.TREE, id_)
            size += place.plain_length if place else 0
            if batch and size > _BATCH_BYTES:
                break
            batch.append(id_)
            del self._ids[-ID_BYTES:]
        return batch
