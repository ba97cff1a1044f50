"""Receipts: what a receiving tier has taken, stored and committed, and what it lacks.

Cumulative: the newest says everything that still matters, older ones may be lost. Signed by the
tier, sealed to the client, or, *relayed*, to the tier through which the client came, which answers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec

from cdr_plugin.errors import AuthenticationError
from cdr_plugin.identity.codec import U32, Bytes16, Bytes32, Count, WireStruct, check_optional_hash, decode, encode
from cdr_plugin.identity.documents import (
    NEVER_S,
    Accept,
    Document,
    open_document,
    seal_document,
    sign_document,
    unseal_document,
)
from cdr_plugin.identity.keys import SealingKey, SealingPublicKey, SigningKey, VerifyKey, short
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


def write_receipt(
    receipt: Receipt,
    signer: SigningKey,
    *,
    client: VerifyKey,
    sealing: SealingPublicKey,
    group: str,
    issued_s: int,
    expires_s: int = NEVER_S,
    about: bytes = b"",
) -> bytes:
    """The object. ``receipt.serial`` must be higher than that of any before, durably. ``client`` is who reads
    it; ``about``: the fingerprint of the client below it that the receipt speaks of, if it is not its own."""
    body: _Body | _RelayedBody = _Body(
        parcels=list(receipt.parcels),
        missing=pack_refs(receipt.missing),
        versions=list(receipt.versions),
        committed=receipt.committed,
        committed_record=receipt.committed_record,
    )
    kind = _KIND
    if about:
        kind, body = _RELAYED, _RelayedBody(client=about, receipt=encode(body, _KIND))
    document = sign_document(
        kind,
        signer=signer,
        group=group,
        addressee=client.fingerprint,
        serial=receipt.serial,
        issued_s=issued_s,
        expires_s=expires_s,
        body=body,
    )
    return seal_document(document, sealing, kind=kind, group=group)


def read_receipt(
    data: Buffer,
    *,
    keys: Sequence[SealingKey],
    tier: VerifyKey | Accept,
    client: VerifyKey,
    group: str,
    now_s: float,
    lowest_serial: int = 0,
    about: bytes = b"",
) -> Receipt:
    """The receipt that ``tier`` wrote for ``client``, of the client below it whose fingerprint is ``about``, if
    that is given; AuthenticationError, FormatError."""
    kind = _RELAYED if about else _KIND
    document = open_document(
        unseal_document(data, keys=keys, kind=kind, group=group),
        kind=kind,
        signer=tier,
        group=group,
        addressee=client.fingerprint,
        now_s=now_s,
        lowest_serial=lowest_serial,
    )
    body = _relayed(document, about) if about else document.body_as(_Body)
    missing = unpack_refs(body.missing, MAX_RECEIPT_BLOBS, "receipt")
    return Receipt(
        document.serial,
        tuple(body.parcels),
        missing,
        tuple(body.versions),
        body.committed,
        body.committed_record,
    )


def _relayed(document: Document, about: bytes) -> _Body:
    relayed = document.body_as(_RelayedBody)
    if relayed.client != about:
        raise AuthenticationError(f"{_RELAYED}: of client {short(relayed.client)}, in the place of {short(about)}")
    return decode(_Body, relayed.receipt, f"body of {_RELAYED}")
