"""The keys of a receiving tier, as it tells them to a client after one of them was replaced.

Signed by the newest signing key, with the line of those before it, so that a client which trusts any of them can
go on to the newest; sealed to the client, as its other answers. It replaces what the ticket says of the tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.documents import (
    NEVER_S,
    open_document,
    seal_document,
    sign_document,
    unseal_document,
)
from cdr_plugin.identity.keys import SealingKey, SealingPublicKey, SigningKey, VerifyKey
from cdr_plugin.identity.succession import Predecessor, Predecessors, check_succession
from cdr_plugin.identity.ticket import SealKey
from cdr_plugin.model.blobs import Buffer

_KIND = "keys"


class _Body(WireStruct, frozen=True):
    sealing: SealKey
    predecessors: Predecessors


@dataclass(frozen=True, slots=True)
class TierKeys:
    """``signing`` verifies what the tier signs from now on, ``sealing`` is what parcels of the group are sealed to.
    ``issued_s``: seconds since 1970, by the tier's clock."""

    serial: int
    signing: VerifyKey
    sealing: SealingPublicKey
    issued_s: int = 0


def write_tier_keys(
    serial: int,
    newest: SealingPublicKey,
    signer: SigningKey,
    predecessors: Sequence[Predecessor],
    *,
    client: VerifyKey,
    sealing: SealingPublicKey,
    group: str,
    issued_s: int,
) -> bytes:
    """The object for ``client``. ``serial`` must be higher than that of any before, durably."""
    document = sign_document(
        _KIND,
        signer=signer,
        group=group,
        addressee=client.fingerprint,
        serial=serial,
        issued_s=issued_s,
        expires_s=NEVER_S,
        body=_Body(sealing=SealKey.of(newest), predecessors=list(predecessors)),
    )
    return seal_document(document, sealing, kind=_KIND, group=group)


def read_tier_keys(
    data: Buffer, *, keys: Sequence[SealingKey], trusted: VerifyKey, client: VerifyKey, group: str, now_s: float
) -> TierKeys:
    """What the tier behind ``trusted`` says of its keys; AuthenticationError when the signer is neither that key nor
    its successor. Whether it is newer than what is known is for the caller to compare."""
    document = open_document(
        unseal_document(data, keys=keys, kind=_KIND, group=group),
        kind=_KIND,
        signer=_whoever,  # the body says how the signer follows from the key that is trusted
        group=group,
        addressee=client.fingerprint,
        now_s=now_s,
    )
    body = document.body_as(_Body)
    check_succession(body.predecessors, document.signer, trusted)
    return TierKeys(document.serial, document.signer, body.sealing.public, document.issued_s)


def _whoever(key: VerifyKey) -> None:
    """Judged behind the body, which is small."""
