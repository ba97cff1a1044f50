"""A group's central policy as it travels: signed by the top tier, sealed to each of those it is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.documents import NEVER_S, Accept, open_document, seal_document, sign_document, unseal_document
from cdr_plugin.identity.keys import SealingKey, SealingPublicKey, SigningKey, VerifyKey
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_POLICY_CHARS

_KIND = "policy"


class _Body(WireStruct, frozen=True):
    text: Annotated[str, msgspec.Meta(max_length=MAX_POLICY_CHARS)]


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """``text``: TOML, authentic but not yet read. Of two documents of one tier the higher serial counts."""

    serial: int
    text: str


def write_policy(
    policy: PolicyDocument,
    signer: SigningKey,
    *,
    client: VerifyKey,
    sealing: SealingPublicKey,
    group: str,
    issued_s: int,
) -> bytes:
    """The object; FormatError for a text that is too long."""
    document = sign_document(
        _KIND,
        signer=signer,
        group=group,
        addressee=client.fingerprint,
        serial=policy.serial,
        issued_s=issued_s,
        expires_s=NEVER_S,
        body=_Body(text=policy.text),
    )
    return seal_document(document, sealing, kind=_KIND, group=group)


def read_policy(
    data: Buffer,
    *,
    keys: Sequence[SealingKey],
    tier: VerifyKey | Accept,
    client: VerifyKey,
    group: str,
    now_s: float,
    lowest_serial: int = 0,
) -> PolicyDocument:
    """The policy that ``tier`` (its key, or who judges it) signed for ``client``; AuthenticationError, FormatError."""
    document = open_document(
        unseal_document(data, keys=keys, kind=_KIND, group=group),
        kind=_KIND,
        signer=tier,
        group=group,
        addressee=client.fingerprint,
        now_s=now_s,
        lowest_serial=lowest_serial,
    )
    return PolicyDocument(document.serial, document.body_as(_Body).text)
