"""A notice: one line of a receiving tier to a client, such as why nothing of it is taken just now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.documents import NEVER_S, Accept, open_document, seal_document, sign_document, unseal_document
from cdr_plugin.identity.keys import SealingKey, SealingPublicKey, SigningKey, VerifyKey
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_REASON_CHARS

_KIND = "notice"


class _Body(WireStruct, frozen=True):
    text: Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)]


@dataclass(frozen=True, slots=True)
class Notice:
    """``text``: empty when there is nothing to say any more."""

    serial: int
    text: str


def write_notice(
    text: str,
    signer: SigningKey,
    *,
    serial: int,
    client: VerifyKey,
    sealing: SealingPublicKey,
    group: str,
    issued_s: int,
) -> bytes:
    """The object. ``serial`` must be higher than that of any before, durably."""
    document = sign_document(
        _KIND,
        signer=signer,
        group=group,
        addressee=client.fingerprint,
        serial=serial,
        issued_s=issued_s,
        expires_s=NEVER_S,
        body=_Body(text=text[:MAX_REASON_CHARS]),
    )
    return seal_document(document, sealing, kind=_KIND, group=group)


def read_notice(
    data: Buffer,
    *,
    keys: Sequence[SealingKey],
    tier: VerifyKey | Accept,
    client: VerifyKey,
    group: str,
    now_s: float,
    lowest_serial: int = 0,
) -> Notice:
    """The notice of ``tier`` (its key, or who judges it) to ``client``; AuthenticationError, FormatError."""
    document = open_document(
        unseal_document(data, keys=keys, kind=_KIND, group=group),
        kind=_KIND,
        signer=tier,
        group=group,
        addressee=client.fingerprint,
        now_s=now_s,
        lowest_serial=lowest_serial,
    )
    return Notice(document.serial, document.body_as(_Body).text)
