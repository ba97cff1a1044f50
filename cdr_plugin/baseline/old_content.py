"""The older content of a file or folder, as reduction methods see it."""

from __future__ import annotations

from collections.abc import Callable

from cdr_plugin.baseline.store import Baseline
from cdr_plugin.contracts import Base, OldContent
from cdr_plugin.model.blobs import BlobId, BlobType

_ID = 32


class KnownContent(OldContent):
    """Of its blobs only those that ``is_base`` admits: what the receiver will hold before it decodes."""

    def __init__(
        self,
        baseline: Baseline,
        is_base: Callable[[BlobType, BlobId], bool],
        label: str,
        type_: BlobType,
        ids: bytes,
    ) -> None:
        """``label``: of the method that asks; ``ids``: packed."""
        self.type = type_
        self.count = len(ids) // _ID
        self._baseline = baseline
        self._is_base = is_base
        self._label = label
        self._ids = ids

    def base(self, position: int) -> Base | None:
        id_ = self._id(position)
        return self._baseline.base(self.type, id_, self._label) if self._is_base(self.type, id_) else None

    def data(self, position: int) -> bytes | None:
        id_ = self._id(position)
        return self._baseline.get(self.type, id_) if self._is_base(self.type, id_) else None

    def _id(self, position: int) -> BlobId:
        return BlobId(self._ids[_ID * position : _ID * position + _ID])
