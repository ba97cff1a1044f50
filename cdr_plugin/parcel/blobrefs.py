"""Lists of blobs, packed: 33 bytes each, type and ID."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.limits import BLOB_REF_BYTES

BlobRef: TypeAlias = tuple[BlobType, BlobId]
"""What a blob is called: its type and its ID."""

_TYPES = (BlobType.DATA, BlobType.TREE)


def pack_refs(refs: Iterable[BlobRef]) -> bytes:
    return b"".join(part for type_, id_ in refs for part in (bytes((type_,)), id_))


def unpack_refs(packed: bytes, most: int, what: str) -> list[BlobRef]:
    """At most ``most`` references, in their order; FormatError."""
    count, rest = divmod(len(packed), BLOB_REF_BYTES)
    if rest or count > most:
        raise FormatError(f"{what}: {len(packed)} bytes are no list of at most {most} blobs")
    if count and max(packed[::BLOB_REF_BYTES]) > BlobType.TREE:
        raise FormatError(f"{what}: unknown blob type {max(packed[::BLOB_REF_BYTES])}")
    starts = range(0, len(packed), BLOB_REF_BYTES)
    return [(_TYPES[packed[at]], BlobId(packed[at + 1 : at + BLOB_REF_BYTES])) for at in starts]
