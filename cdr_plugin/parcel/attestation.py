"""Attestations: a reducing tier's word that a client delivered blobs which it dropped on the way.

Written for the tiers above, signed by the tier that compared the bytes. Possession counts what is
attested like what is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cdr_plugin.errors import AuthenticationError, FormatError
from cdr_plugin.identity.codec import Bytes32, Count, WireStruct, check_format, check_optional_hash, decode, encode
from cdr_plugin.identity.keys import SIGNATURE_BYTES, SigningKey, VerifyKey, short
from cdr_plugin.identity.wire import group_hash
from cdr_plugin.parcel.blobrefs import BlobRef, pack_refs, unpack_refs
from cdr_plugin.parcel.limits import BLOB_REF_BYTES, MAX_ATTESTATION_BYTES, MAX_ATTESTED_BLOBS

ATTESTATION_FORMAT = 1

_DOMAIN = b"cdr/1 attestation"


class _Body(WireStruct, frozen=True):
    format: Annotated[int, msgspec.Meta(ge=ATTESTATION_FORMAT, le=ATTESTATION_FORMAT)]
    group: Bytes32
    addressee: Annotated[bytes, msgspec.Meta(max_length=32)]
    serial: Count
    expires_s: Count
    client: Bytes32
    blobs: Annotated[bytes, msgspec.Meta(max_length=BLOB_REF_BYTES * MAX_ATTESTED_BLOBS)]

    def __post_init__(self) -> None:
        check_optional_hash(self.addressee, "addressee")


@dataclass(frozen=True, slots=True)
class Attestation:
    """``client`` (a fingerprint) delivered ``blobs``, byte for byte, to the tier that signs.

    ``addressee``: fingerprint of the tier that may rely on it, or empty: any tier of the group.
    """

    group: str
    addressee: bytes
    serial: int
    expires_s: int
    client: bytes
    blobs: Sequence[BlobRef]


@dataclass(frozen=True, slots=True)
class SignedAttestation:
    """An attestation as it travels: opaque bytes and the attesting tier's signature."""

    body: bytes
    signature: bytes


def sign_attestation(attestation: Attestation, signer: SigningKey) -> SignedAttestation:
    """FormatError for more blobs than one attestation holds."""
    body = encode(
        _Body(
            format=ATTESTATION_FORMAT,
            group=group_hash(attestation.group),
            addressee=attestation.addressee,
            serial=attestation.serial,
            expires_s=attestation.expires_s,
            client=attestation.client,
            blobs=pack_refs(attestation.blobs),
        ),
        "attestation",
    )
    _decode(body)
    return SignedAttestation(body, signer.sign(_DOMAIN, body))


def verify_attestation(
    signed: SignedAttestation,
    *,
    tier: VerifyKey,
    group: str,
    addressee: bytes,
    now_s: float,
    lowest_serial: int = 0,
) -> Attestation:
    """What ``tier`` attests to us; AuthenticationError naming the claim that does not hold."""
    what = f"attestation by {short(tier.fingerprint)}"
    if len(signed.signature) != SIGNATURE_BYTES:
        raise FormatError(f"{what}: signature of {len(signed.signature)} bytes")
    tier.verify(signed.signature, _DOMAIN, signed.body)
    body = _decode(signed.body)
    if body.group != group_hash(group):
        raise AuthenticationError(f"{what}: of another group than {group}")
    if body.addressee not in (b"", addressee):
        raise AuthenticationError(f"{what}: addressed to another tier")
    if body.serial < lowest_serial:
        raise AuthenticationError(f"{what}: serial {body.serial} is older than {lowest_serial}: replayed")
    if now_s > body.expires_s:
        raise AuthenticationError(f"{what}: expired")
    blobs = unpack_refs(body.blobs, MAX_ATTESTED_BLOBS, what)
    return Attestation(group, body.addressee, body.serial, body.expires_s, body.client, blobs)


def _decode(data: bytes) -> _Body:
    if len(data) > MAX_ATTESTATION_BYTES:
        raise FormatError(f"attestation: {len(data)} bytes, the limit is {MAX_ATTESTATION_BYTES}")
    check_format(data, ATTESTATION_FORMAT, "attestation")
    return decode(_Body, data, "attestation")
