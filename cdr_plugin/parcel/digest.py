"""Digests of known blobs: what the tier above holds, for a tier that reduces, as short keyed hashes.

A manifest and its parts, each signed by the tier above and sealed to the tier below. The manifest names the SHA-256 of
every part object in order. Parts are added while an *epoch* lasts; a new epoch has another key, and replaces all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from typing import Annotated

import msgspec

from cdr_plugin.errors import AuthenticationError, FormatError
from cdr_plugin.identity.codec import Bytes16, Bytes32, Count, WireStruct
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import DIGEST_HASH_BYTES, MAX_DIGEST_HASHES, MAX_DIGEST_PARTS
from cdr_plugin.parcel.sealed import Addressee, Author

_KIND = "digest"
_PART_KIND = "digest part"
_OBJECT_HASH_BYTES = 32


class _Manifest(WireStruct, frozen=True):
    epoch: Bytes16
    key: Bytes32
    parts: Annotated[bytes, msgspec.Meta(max_length=MAX_DIGEST_PARTS * _OBJECT_HASH_BYTES)]


class _Part(WireStruct, frozen=True):
    epoch: Bytes16
    number: Count
    hashes: Annotated[bytes, msgspec.Meta(max_length=MAX_DIGEST_HASHES * DIGEST_HASH_BYTES)]


@dataclass(frozen=True, slots=True)
class Digest:
    """The manifest. ``epoch``: 16 random bytes; ``key``: 32, of the hashes; ``parts``: SHA-256 of each part object."""

    serial: int
    epoch: bytes
    key: bytes = field(repr=False)
    parts: Sequence[bytes]


def digest_hash(key: bytes, blob: bytes) -> bytes:
    """12 bytes that stand for a blob (type byte and ID) in the epoch of ``key``."""
    return blake2b(blob, digest_size=DIGEST_HASH_BYTES, key=key).digest()


def write_digest(digest: Digest, author: Author) -> bytes:
    """The manifest's object. ``digest.serial`` must be higher than that of any before, durably."""
    body = _Manifest(epoch=digest.epoch, key=digest.key, parts=b"".join(digest.parts))
    return author.seal(_KIND, digest.serial, body)


def read_digest(data: Buffer, addressee: Addressee) -> Digest:
    """The manifest that the tier above wrote for this one; AuthenticationError, FormatError."""
    serial, body = addressee.open(data, _KIND, _Manifest)
    if len(body.parts) % _OBJECT_HASH_BYTES:
        raise FormatError(f"digest: {len(body.parts)} bytes are no hashes of parts")
    starts = range(0, len(body.parts), _OBJECT_HASH_BYTES)
    return Digest(serial, body.epoch, body.key, [body.parts[at : at + _OBJECT_HASH_BYTES] for at in starts])


def write_digest_part(epoch: bytes, number: int, serial: int, hashes: Iterable[bytes], author: Author) -> bytes:
    """The object of a part with at most ``MAX_DIGEST_HASHES`` hashes."""
    return author.seal(_PART_KIND, serial, _Part(epoch=epoch, number=number, hashes=b"".join(hashes)))


def read_digest_part(data: Buffer, digest: Digest, number: int, addressee: Addressee) -> list[bytes]:
    """The hashes of part ``number``; AuthenticationError when it is not that part, FormatError."""
    if sha256(data).digest() != digest.parts[number]:
        raise AuthenticationError(f"part {number} of digest: not the one that its manifest names")
    _, part = addressee.open(data, _PART_KIND, _Part)
    if (part.epoch, part.number) != (digest.epoch, number):
        raise AuthenticationError(f"part {number} of digest: of another epoch")
    if len(part.hashes) % DIGEST_HASH_BYTES:
        raise FormatError(f"part {number} of digest: {len(part.hashes)} bytes are no hashes")
    return [part.hashes[at : at + DIGEST_HASH_BYTES] for at in range(0, len(part.hashes), DIGEST_HASH_BYTES)]
