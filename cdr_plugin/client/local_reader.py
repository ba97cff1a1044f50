"""Reading back what a client still has itself: from its baseline, its spool and its sources.

Nothing here needs a network or the password of a repository. Trees are in the baseline; contents in held
segments, in the baseline where it keeps copies, and in files that are still as a catalog says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from cdr_plugin.client.held import HeldSegments, PayloadReader
from cdr_plugin.client.known_blobs import key_rows
from cdr_plugin.client.recipes import source_blobs
from cdr_plugin.client.rows import KEY_BYTES, blob_key
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.wanted import WantedBlob
from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.kernel import BLOB_RECORD, BlobTable
from cdr_plugin.model.blobs import BlobId, BlobType

_MAX_DEPTH = 200
"""Of deltas to deltas, one for each version that waits; each takes a few frames of the interpreter."""


class LocalReader(RepositoryReader):
    """Blobs of a client's own versions, each verified. Belongs to one thread.

    ``read_many`` leaves out what is not here any more: who asked for it knows by whose name to say so.
    """

    def __init__(self, client: ClientTier) -> None:
        self._client = client
        self._baseline = client.baseline()
        self._held = HeldSegments(client)
        self._payloads = PayloadReader(client)
        self._segments: list[tuple[int, int]] = []
        self._places = self._find_places()
        self._depth = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._baseline.close()

    def _find_places(self) -> BlobTable:
        """The held segment that lists a blob, as the pack of its row."""
        table = BlobTable()
        for number, (parcel, index, keys) in enumerate(self._client.state.holdings.held_keys()):
            self._segments.append((parcel, index))
            rows = key_rows(keys)
            for at, octet in enumerate(number.to_bytes(4, "little"), KEY_BYTES):
                rows[at :: BLOB_RECORD.size] = bytes((octet,)) * (len(keys) // KEY_BYTES)
            table.add_rows(rows)
        return table

    def read(self, type_: BlobType, id_: BlobId) -> bytes:
        for _, data in self.read_many(type_, [id_]):
            return data
        raise NotFoundError(
            f"{type_.name.lower()} blob {id_.hex()[:10]} is not on this machine any more; restore from the repository"
        )

    def read_many(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        left = dict.fromkeys(ids)
        for id_ in list(left):
            data = self._baseline.get(type_, id_)
            if data is not None:
                del left[id_]
                yield id_, data
        for id_, data in self._from_spool(type_, list(left)):
            if id_ in left:
                del left[id_]
                yield id_, data
        if left and type_ is BlobType.DATA:
            yield from source_blobs(self._client, set(left))

    def _from_spool(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        for payload in self._held.payloads(self._wanted(type_, ids)):
            try:
                yield payload.id, self._payloads.read(payload, self._base)
            except (IntegrityError, NotFoundError):
                continue  # the source may still have it

    def _wanted(self, type_: BlobType, ids: Sequence[BlobId]) -> list[WantedBlob]:
        """In the order of the spool."""
        found = []
        for id_ in ids:
            row = self._places.find(type_, id_)
            if row >= 0:
                parcel, index = self._segments[self._places.get(row)[2]]
                found.append(WantedBlob(blob_key(type_, id_), parcel, index))
        return sorted(found, key=lambda blob: (blob.parcel, blob.index))

    def _base(self, type_: BlobType, id_: BlobId) -> bytes:
        """What a delta builds on: perhaps a delta itself."""
        if self._depth >= _MAX_DEPTH:
            raise NotFoundError(f"{type_.name.lower()} blob {id_.hex()[:10]} is a delta to too many others")
        self._depth += 1
        try:
            return self.read(type_, id_)
        finally:
            self._depth -= 1

    def sizes(self, type_: BlobType, ids: Sequence[BlobId]) -> Sequence[int | None]:
        """From the baseline where it knows; the others are read, all in one go."""
        found = {id_: self._baseline.length(type_, id_) for id_ in ids}
        unknown = [id_ for id_, size in found.items() if size is None]
        for id_, data in self.read_many(type_, unknown) if unknown else ():
            found[id_] = len(data)
        return [found[id_] for id_ in ids]
