"""A client tells the tier above its new keys: signed by the new signing key, which its predecessor has signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdr_plugin.errors import AuthenticationError
from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.documents import NEVER_S, open_document, seal_document, sign_document, unseal_document
from cdr_plugin.identity.keys import SealingKey, SealingPublicKey, SigningKey, VerifyKey
from cdr_plugin.identity.succession import Predecessor, Predecessors, check_succession
from cdr_plugin.identity.ticket import SealKey, Ticket
from cdr_plugin.model.blobs import Buffer

_KIND = "successor"


class _Body(WireStruct, frozen=True):
    predecessors: Predecessors
    sealing: SealKey


@dataclass(frozen=True, slots=True)
class Successor:
    """``key`` was named by the last of ``predecessors``, each of these by the one before it; ``sealing`` is what
    answers are sealed to from now on."""

    group: str
    key: VerifyKey
    sealing: SealingPublicKey
    predecessors: Sequence[Predecessor]

    def check(self, known: VerifyKey) -> None:
        """AuthenticationError unless the owner of ``known`` named this key, or one that did."""
        check_succession(self.predecessors, self.key, known)


def announce_successor(
    ticket: Ticket,
    signer: SigningKey,
    sealing: SealingPublicKey,
    predecessors: Sequence[Predecessor],
    *,
    issued_s: int,
) -> bytes:
    """The object that a client puts into the inbox; it may be put again and again."""
    document = sign_document(
        _KIND,
        signer=signer,
        group=ticket.group,
        addressee=ticket.issuer.fingerprint,
        serial=issued_s,
        issued_s=issued_s,
        expires_s=NEVER_S,
        body=_Body(predecessors=list(predecessors), sealing=SealKey.of(sealing)),
    )
    return seal_document(document, ticket.sealing, kind=_KIND, group=ticket.group)


def open_successor(
    data: Buffer, *, keys: Sequence[SealingKey], group: str, tiers: Sequence[VerifyKey], now_s: float
) -> Successor:
    """Sealed to one of ``keys``, addressed to one of ``tiers``: the keys that the reader has had, the present one last.
    Whether a key that is known here is among the predecessors, ``Successor.check`` says. AuthenticationError,
    FormatError."""
    signed = unseal_document(data, keys=keys, kind=_KIND, group=group)
    for tier in tiers:
        try:
            document = open_document(
                signed, kind=_KIND, signer=_anybody, group=group, addressee=tier.fingerprint, now_s=now_s
            )
        except AuthenticationError:
            if tier == tiers[-1]:
                raise
            continue
        body = document.body_as(_Body)
        return Successor(group, document.signer, body.sealing.public, body.predecessors)
    raise AuthenticationError(f"{_KIND}: no key of ours to address")


def _anybody(_key: VerifyKey) -> None:
    """Its predecessors vouch for it."""
