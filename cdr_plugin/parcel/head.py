"""The head: what a client says there is to fetch, in order. One small object to poll.

It is signed, not sealed: tiers that move segments unopened hold no key and must read it too. It
tells parcels' random IDs and counts, nothing of what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cdr_plugin.errors import FormatError
from cdr_plugin.identity.codec import U32, Bytes16, WireStruct, decode
from cdr_plugin.identity.documents import (
    ANYONE,
    NEVER_S,
    Accept,
    Carried,
    open_document,
    read_carried,
    sign_document,
)
from cdr_plugin.identity.keys import SigningKey, VerifyKey
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_HEAD_PARCELS
from cdr_plugin.parcel.naming import folder_of

_KIND = "head"


class HeadParcel(WireStruct, frozen=True):
    """One parcel: ``segments`` so far (indexes 0 up to it, exclusive), and whether that is all."""

    id: Bytes16
    segments: U32
    closed: bool


class _Body(WireStruct, frozen=True):
    parcels: Annotated[list[HeadParcel], msgspec.Meta(max_length=MAX_HEAD_PARCELS)]


@dataclass(frozen=True, slots=True)
class Head:
    """Parcels in the order in which they are to be taken. A parcel that is not named any more
    needs nothing more from its reader."""

    serial: int
    parcels: Sequence[HeadParcel]


def write_head(head: Head, signer: SigningKey, *, group: str, issued_s: int) -> bytes:
    """The object. ``head.serial`` must be higher than that of any head before, durably."""
    return sign_document(
        _KIND,
        signer=signer,
        group=group,
        addressee=ANYONE,
        serial=head.serial,
        issued_s=issued_s,
        expires_s=NEVER_S,
        body=_Body(parcels=list(head.parcels)),
    )


def read_head(
    data: Buffer, *, signer: VerifyKey | Accept, group: str, now_s: float, lowest_serial: int = 0
) -> tuple[VerifyKey, Head]:
    """The client that signed, and its head; AuthenticationError, FormatError."""
    document = open_document(
        data,
        kind=_KIND,
        signer=signer,
        group=group,
        addressee=ANYONE,
        now_s=now_s,
        lowest_serial=lowest_serial,
    )
    parcels = tuple(document.body_as(_Body).parcels)
    if len({parcel.id for parcel in parcels}) < len(parcels):
        raise FormatError("a head names a parcel twice")  # a receipt would look at all that was taken for each
    return document.signer, Head(document.serial, parcels)


def carried_serial(data: Buffer, folder: str) -> int:
    """The serial of the head in ``folder``, for a tier that only carries it and knows neither group nor
    client; -1 for what its client has not signed."""
    carried = _carried(data, folder)
    return -1 if carried is None else carried.serial


def carried_parcels(data: Buffer, folder: str) -> Sequence[HeadParcel]:
    """What the head in ``folder`` names, in order, for such a tier; nothing for what its client has not signed."""
    carried = _carried(data, folder)
    try:
        return () if carried is None else tuple(decode(_Body, carried.body, _KIND).parcels)
    except FormatError:
        return ()


def _carried(data: Buffer, folder: str) -> Carried | None:
    return read_carried(data, kind=_KIND, is_owner=lambda key, group: folder_of(key, group) == folder)
