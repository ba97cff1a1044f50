"""What the top tier's checks have verified of one client, signed by the tier and sealed to the client.

Cumulative: a version that the newest one does not name counts as not verified (any more).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.documents import (
    NEVER_S,
    Accept,
    open_document,
    seal_document,
    sign_document,
    unseal_document,
)
from cdr_plugin.identity.keys import SealingKey, SealingPublicKey, SigningKey, VerifyKey
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_VERIFIED_VERSIONS, VERIFIED_VERSION_BYTES
from cdr_plugin.parcel.verified_list import VerifiedVersion, pack_verified, unpack_verified

_KIND = "verified"


class _Body(WireStruct, frozen=True):
    versions: Annotated[bytes, msgspec.Meta(max_length=MAX_VERIFIED_VERSIONS * VERIFIED_VERSION_BYTES)]


@dataclass(frozen=True, slots=True)
class Verified:
    """``versions`` ascend by number and record; with ``MAX_VERIFIED_VERSIONS`` of them nothing is said of those
    before the first."""

    serial: int
    versions: Sequence[VerifiedVersion] = ()


def write_verified(
    verified: Verified,
    signer: SigningKey,
    *,
    client: VerifyKey,
    sealing: SealingPublicKey,
    group: str,
    issued_s: int,
    expires_s: int = NEVER_S,
) -> bytes:
    """The object. ``verified.serial`` must be higher than that of any before, durably."""
    document = sign_document(
        _KIND,
        signer=signer,
        group=group,
        addressee=client.fingerprint,
        serial=verified.serial,
        issued_s=issued_s,
        expires_s=expires_s,
        body=_Body(versions=pack_verified(verified.versions)),
    )
    return seal_document(document, sealing, kind=_KIND, group=group)


def read_verified(
    data: Buffer,
    *,
    keys: Sequence[SealingKey],
    tier: VerifyKey | Accept,
    client: VerifyKey,
    group: str,
    now_s: float,
    lowest_serial: int = 0,
) -> Verified:
    """What ``tier`` wrote for ``client``; AuthenticationError, FormatError."""
    document = open_document(
        unseal_document(data, keys=keys, kind=_KIND, group=group),
        kind=_KIND,
        signer=tier,
        group=group,
        addressee=client.fingerprint,
        now_s=now_s,
        lowest_serial=lowest_serial,
    )
    return Verified(document.serial, tuple(unpack_verified(document.body_as(_Body).versions)))
