"""Receipts: what a receiving tier has taken, stored and committed, and what it lacks.

Cumulative: the newest says everything that still matters, older ones may be lost. Signed by the
tier, sealed to the client, or, *relayed*, to the tier through which the client came, which answers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Unpack

import msgspec

from cdr_plugin.errors import AuthenticationError
from cdr_plugin.identity.codec import U32, Bytes16, Bytes32, Count, WireStruct, check_optional_hash, decode, encode
from cdr_plugin.identity.keys import SigningKey, short
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.blobrefs import BlobRef, pack_refs, unpack_refs
from cdr_plugin.parcel.limits import (
    BLOB_REF_BYTES,
    MAX_REASON_CHARS,
    MAX_RECEIPT_BLOBS,
    MAX_RECEIPT_INDEXES,
    MAX_RECEIPT_PARCELS,
    MAX_RECEIPT_VERSIONS,
)
from cdr_plugin.parcel.sealed import Addressee, AddresseeFields, Author, AuthorFields

_KIND = "receipt"
_RELAYED = "relayed receipt"

_Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)]
_Hash = Annotated[bytes, msgspec.Meta(max_length=32)]


class VersionState(StrEnum):
    """How far a version has come at the tier that signs."""

    STORED = "stored"
    COMMITTED = "committed"
    INCOMPLETE = "incomplete"
    REJECTED = "rejected"


class RejectedSegment(WireStruct, frozen=True):
    """A segment that cannot be used, the SHA-256 of the object that was found, and why."""

    index: U32
    object: Bytes32
    reason: _Reason


class ParcelReceipt(WireStruct, frozen=True):
    """``taken``: all segments below this index are durably taken or named in ``rejected``.

    ``missing``: indexes that lie before something taken but were not there. ``digest``: SHA-256
    over the SHA-256s of the objects below ``taken``, in order, or empty where the tier does not
    hash whole objects.
    """

    id: Bytes16
    taken: U32
    digest: _Hash
    rejected: Annotated[list[RejectedSegment], msgspec.Meta(max_length=MAX_RECEIPT_INDEXES)]
    missing: Annotated[list[U32], msgspec.Meta(max_length=MAX_RECEIPT_INDEXES)]

    def __post_init__(self) -> None:
        check_optional_hash(self.digest, "digest")


class VersionReceipt(WireStruct, frozen=True):
    """The state of one version; ``record`` is its record's hash, ``snapshot`` the ID (hex) that it
    got in the repository, empty before; ``reason`` is for people."""

    number: Count
    state: VersionState
    record: Bytes32
    snapshot: Annotated[str, msgspec.Meta(max_length=64)]
    reason: _Reason


class _Body(WireStruct, frozen=True):
    parcels: Annotated[list[ParcelReceipt], msgspec.Meta(max_length=MAX_RECEIPT_PARCELS)]
    missing: Annotated[bytes, msgspec.Meta(max_length=MAX_RECEIPT_BLOBS * BLOB_REF_BYTES)]
    versions: Annotated[list[VersionReceipt], msgspec.Meta(max_length=MAX_RECEIPT_VERSIONS)]
    committed: Count
    committed_record: _Hash

    def __post_init__(self) -> None:
        check_optional_hash(self.committed_record, "committed record")


class _RelayedBody(WireStruct, frozen=True):
    """``client``: the fingerprint of whom it is about; ``receipt``: as the body of a receipt."""

    client: Bytes32
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a tier answers one client.

    ``missing``: blobs to send again, first of all. ``committed``: number of the newest committed
    version, 0 before the first, and ``committed_record`` its record's hash, empty then.
    """

    serial: int
    parcels: Sequence[ParcelReceipt] = ()
    missing: Sequence[BlobRef] = ()
    versions: Sequence[VersionReceipt] = ()
    committed: int = 0
    committed_record: bytes = b""


def write_receipt(receipt: Receipt, signer: SigningKey, *, about: bytes = b"", **author: Unpack[AuthorFields]) -> bytes:
    """The object. ``receipt.serial`` must be higher than that of any before, durably. ``client`` is who reads
    it; ``about``: the fingerprint of the client below it that the receipt speaks of, if it is not its own."""
    body = _Body(
        parcels=list(receipt.parcels),
        missing=pack_refs(receipt.missing),
        versions=list(receipt.versions),
        committed=receipt.committed,
        committed_record=receipt.committed_record,
    )
    writer = Author(signer, **author)
    if about:
        return writer.seal(_RELAYED, receipt.serial, _RelayedBody(client=about, receipt=encode(body, _KIND)))
    return writer.seal(_KIND, receipt.serial, body)


def read_receipt(data: Buffer, *, about: bytes = b"", **addressee: Unpack[AddresseeFields]) -> Receipt:
    """The receipt that the tier wrote for the client, of the client below it whose fingerprint is ``about``, if
    that is given; AuthenticationError, FormatError."""
    reader = Addressee(**addressee)
    serial, body = _open_relayed(data, about, reader) if about else reader.open(data, _KIND, _Body)
    missing = unpack_refs(body.missing, MAX_RECEIPT_BLOBS, "receipt")
    versions = tuple(body.versions)
    return Receipt(serial, tuple(body.parcels), missing, versions, body.committed, body.committed_record)


def _open_relayed(data: Buffer, about: bytes, reader: Addressee) -> tuple[int, _Body]:
    serial, relayed = reader.open(data, _RELAYED, _RelayedBody)
    if relayed.client != about:
        raise AuthenticationError(f"{_RELAYED}: of client {short(relayed.client)}, in the place of {short(about)}")
    return serial, decode(_Body, relayed.receipt, f"body of {_RELAYED}")
