"""Reads trees in the order of a depth-first walk, several siblings at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, decode_tree

_AHEAD = 256
"""Siblings fetched together: one reading of a pack instead of one request each."""
_MAX_CACHED_BYTES = 16 * 1024 * 1024


class Trees:
    """Tree blobs by ID; holds at most 16 MiB of those that a walk will want soon."""

    def __init__(self, reader: RepositoryReader) -> None:
        self._reader = reader
        self._cached: dict[BlobId, bytes] = {}
        self._cached_bytes = 0

    def load(self, id_: BlobId, siblings: Iterator[BlobId]) -> list[Node]:
        """The nodes of a tree; ``siblings`` are likely to be asked for next. NotFoundError,
        IntegrityError."""
        data = self._take(id_)
        if data is None:
            self._fetch_ahead([id_, *(later for _, later in zip(range(_AHEAD), siblings, strict=False))])
            data = self._take(id_)
        return decode_tree(self._reader.read(BlobType.TREE, id_) if data is None else data)

    def _take(self, id_: BlobId) -> bytes | None:
        data = self._cached.pop(id_, None)
        if data is not None:
            self._cached_bytes -= len(data)
        return data

    def _fetch_ahead(self, ids: Sequence[BlobId]) -> None:
        wanted = self._affordable(list(dict.fromkeys(ids)))
        if len(wanted) < 2:
            return
        try:
            for id_, data in self._reader.read_many(BlobType.TREE, wanted):
                self._cached[id_] = data
                self._cached_bytes += len(data)
        except (NotFoundError, IntegrityError):
            return  # whoever asks for the broken one gets its error; the others are read singly

    def _affordable(self, ids: Sequence[BlobId]) -> list[BlobId]:
        chosen: list[BlobId] = []
        room = _MAX_CACHED_BYTES - self._cached_bytes
        for id_, size in zip(ids, self._reader.sizes(BlobType.TREE, ids), strict=True):
            if size is not None and size <= room and id_ not in self._cached:
                chosen.append(id_)
                room -= size
        return chosen
