"""Where a new blob comes from: the older content of its file or folder, on which a delta may build."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from cdr_plugin.model.blobs import BlobId, Buffer


class Origin:
    """The older content of one file or folder. Any number of threads may ask."""

    __slots__ = ("__weakref__", "_find", "_ids")

    def __init__(self, ids: bytes = b"", find: Callable[[], bytes] | None = None) -> None:
        self._ids = ids
        self._find = find

    @property
    def ids(self) -> bytes:
        """The packed IDs of its blobs in order (of a folder: of its tree); empty when there is none. May read
        the old catalog when asked for the first time, so ask only for what must be encoded."""
        find = self._find
        if find is not None:
            self._ids, self._find = find(), None
        return self._ids


NewBlob: TypeAlias = tuple[BlobId, Buffer, int, Origin | None]
"""ID, plaintext, offset in the file in bytes, and where it comes from; None: from something without an older
content. All blobs of one file come with the same origin, about in the order of their offsets."""
