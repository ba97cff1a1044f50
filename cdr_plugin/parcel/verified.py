"""What the top tier's checks have verified of one client, signed by the tier and sealed to the client.

Cumulative: a version that the newest one does not name counts as not verified (any more).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Unpack

import msgspec

from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_VERIFIED_VERSIONS, VERIFIED_VERSION_BYTES
from cdr_plugin.parcel.sealed import Addressee, AddresseeFields, Author, AuthorFields
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


def write_verified(verified: Verified, signer: SigningKey, **author: Unpack[AuthorFields]) -> bytes:
    """The object. ``verified.serial`` must be higher than that of any before, durably."""
    body = _Body(versions=pack_verified(verified.versions))
    return Author(signer, **author).seal(_KIND, verified.serial, body)


def read_verified(data: Buffer, **addressee: Unpack[AddresseeFields]) -> Verified:
    """What the tier wrote for the client; AuthenticationError, FormatError."""
    serial, body = Addressee(**addressee).open(data, _KIND, _Body)
    return Verified(serial, tuple(unpack_verified(body.versions)))
