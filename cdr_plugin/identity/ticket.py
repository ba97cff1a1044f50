"""Tickets and enrolment: how a tier gets to know the tiers above, and they it.

A ticket is a text file for one group. It carries a one-time secret, so it travels by a way that
the operator trusts; the enrolment request that answers it is signed by the new client and sealed
to the issuer, and proves the secret by naming it there.
"""

from __future__ import annotations

import binascii
import os
import textwrap
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, ClassVar

import msgspec

from cdr_plugin.errors import AuthenticationError, FormatError, UserError
from cdr_plugin.identity.codec import Bytes32, Count, ShortText, WireStruct
from cdr_plugin.identity.documents import (
    ANYONE,
    NEVER_S,
    Accept,
    Document,
    open_document,
    seal_document,
    sign_document,
    unseal_document,
)
from cdr_plugin.identity.keys import (
    Entropy,
    KemSuite,
    SealingKey,
    SealingPublicKey,
    SigningKey,
    VerifyKey,
    short,
)
from cdr_plugin.identity.wire import check_group, frame, is_name
from cdr_plugin.model.blobs import Buffer

MAX_TICKET_BYTES = 64 * 1024
"""A ticket of ten tiers above has about 5 KB; more is no ticket."""
MAX_TICKET_TIERS = 64
MAX_TICKET_ENTRIES = 256
MAX_FACTS = 64

_BEGIN = "-----BEGIN CDR TICKET-----"
_END = "-----END CDR TICKET-----"
_TICKET = "ticket"
_ENROLMENT = "enrolment"

Address = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]


class TierKey(WireStruct, frozen=True):
    """A tier above: its name, for people, and the key that its documents verify with."""

    name: ShortText
    key: Bytes32

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey(self.key)


class SealKey(WireStruct, frozen=True):
    """A public sealing key as other structures hold it."""

    suite: KemSuite
    key: Annotated[bytes, msgspec.Meta(max_length=2048)]

    @classmethod
    def of(cls, key: SealingPublicKey) -> SealKey:
        return cls(suite=key.suite, key=key.raw)

    @property
    def public(self) -> SealingPublicKey:
        return SealingPublicKey(self.suite, self.key)


class _TicketBody(WireStruct, frozen=True):
    group: ShortText
    secret: Bytes32
    uses: Count
    tiers: Annotated[list[TierKey], msgspec.Meta(min_length=1, max_length=MAX_TICKET_TIERS)]
    sealing: SealKey
    chunker: Annotated[dict[ShortText, str | int], msgspec.Meta(max_length=MAX_TICKET_ENTRIES)]
    inboxes: Annotated[list[Address], msgspec.Meta(max_length=MAX_TICKET_ENTRIES)]
    abilities: Annotated[list[ShortText], msgspec.Meta(max_length=MAX_TICKET_ENTRIES)]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a client needs to know of the hierarchy above it, for one group.

    ``issuer`` is the next reducing tier, ``sealing`` its key for the group; ``tiers`` are all
    tiers above, nearest first, the issuer among them. ``uses``: how many clients may enrol with it;
    ``expires_s``: until when, in seconds since 1970. ``abilities``: labels of the reduction methods
    that the whole path understands.
    """

    group: str
    issuer: VerifyKey
    secret: bytes = field(repr=False)
    uses: int
    expires_s: int
    tiers: Sequence[TierKey]
    sealing: SealingPublicKey
    chunker: Mapping[str, str | int]
    inboxes: Sequence[str]
    abilities: Sequence[str] = ()
    issued_s: int = field(default=0, compare=False)
    """Of one that was read: when it was issued, in seconds since 1970."""

    SECRET_BYTES: ClassVar[int] = 32

    @property
    def id(self) -> bytes:
        return ticket_id(self.secret)

    @property
    def top(self) -> VerifyKey:
        """The key of the tier that holds the repository: it says what is there."""
        return self.issuer if len(self.tiers) == 1 else self.tiers[-1].verify_key


def ticket_id(secret: bytes) -> bytes:
    """8 bytes that name a ticket in registers and messages without telling its secret."""
    return sha256(frame(b"cdr/1 ticket id", secret)).digest()[:8]


def new_secret(entropy: Entropy = os.urandom) -> bytes:
    return entropy(Ticket.SECRET_BYTES)


def write_ticket(ticket: Ticket, signer: SigningKey, *, issued_s: int) -> str:
    """The ticket as text, signed by its issuer. It is a secret until it is used up."""
    if signer.public != ticket.issuer or not any(tier.key == ticket.issuer.raw for tier in ticket.tiers):
        raise UserError(f"ticket for {ticket.group}: the issuer must sign it and be one of its tiers")
    body = _TicketBody(
        group=check_group(ticket.group),
        secret=ticket.secret,
        uses=ticket.uses,
        tiers=list(ticket.tiers),
        sealing=SealKey.of(ticket.sealing),
        chunker=dict(ticket.chunker),
        inboxes=list(ticket.inboxes),
        abilities=list(ticket.abilities),
    )
    return _armour(
        ticket.group,
        sign_document(
            _TICKET,
            signer=signer,
            group=ticket.group,
            addressee=ANYONE,
            serial=0,
            issued_s=issued_s,
            expires_s=ticket.expires_s,
            body=body,
        ),
    )


def read_ticket(text: str, *, now_s: float) -> Ticket:
    """The ticket in ``text``; FormatError when it is none or damaged, AuthenticationError when
    it has expired. Mail programs' carriage returns and surrounding blank lines do no harm."""
    group, data = _unarmour(text)
    document = open_document(data, kind=_TICKET, signer=_anybody, group=group, addressee=ANYONE, now_s=now_s)
    body = document.body_as(_TicketBody)
    if body.group != group or not any(tier.key == document.signer.raw for tier in body.tiers):
        raise FormatError("ticket: its parts do not belong together; ask for a new one")
    return Ticket(
        group=group,
        issuer=document.signer,
        secret=body.secret,
        uses=body.uses,
        expires_s=document.expires_s,
        tiers=tuple(body.tiers),
        sealing=body.sealing.public,
        chunker=body.chunker,
        inboxes=tuple(body.inboxes),
        abilities=tuple(body.abilities),
        issued_s=document.issued_s,
    )


def ticket_group(text: str) -> str:
    """The group that a ticket is for, whether or not it has expired; FormatError."""
    return read_ticket(text, now_s=0).group


def _anybody(key: VerifyKey) -> None:
    """The ticket itself introduces its issuer: who handed it over is the one who is trusted."""


def _armour(group: str, data: bytes) -> str:
    issuer = short(VerifyKey(data[2:34]).fingerprint)
    lines = textwrap.wrap(b64encode(data).decode(), 76)
    return "\n".join((_BEGIN, f"Group: {group}", f"Issuer: {issuer}", "", *lines, _END)) + "\n"


def _unarmour(text: str) -> tuple[str, bytes]:
    if len(text) > MAX_TICKET_BYTES:
        raise FormatError(f"ticket: {len(text)} characters, the limit is {MAX_TICKET_BYTES}")
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) < 6 or lines[0] != _BEGIN or lines[-1] != _END or not lines[1].startswith("Group: "):
        raise FormatError(f"no ticket: the text must run from {_BEGIN!r} to {_END!r}")
    group = lines[1].removeprefix("Group: ")
    try:
        data = b64decode("".join(lines[4:-1]), validate=True)
    except (binascii.Error, ValueError):
        raise FormatError("ticket: damaged, not base64; copy the whole text again") from None
    if not is_name(group) or len(data) < 34 or _armour(group, data).split("\n")[:-1] != lines:
        raise FormatError("ticket: damaged, its lines do not agree; copy the whole text again")
    return group, data


class _EnrolmentBody(WireStruct, frozen=True):
    secret: Bytes32
    name: ShortText
    sealing: SealKey
    facts: Annotated[dict[ShortText, ShortText], msgspec.Meta(max_length=MAX_FACTS)]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A client's request to be known: its keys, its name, and what it says of itself
    (``host``, ``system``, ``site``, ``department``, ``timezone``)."""

    group: str
    client: VerifyKey
    sealing: SealingPublicKey
    name: str
    facts: Mapping[str, str]
    secret: bytes = field(repr=False)

    @property
    def ticket_id(self) -> bytes:
        """Of the ticket that it redeems."""
        return ticket_id(self.secret)


def request_enrolment(
    ticket: Ticket,
    signer: SigningKey,
    sealing: SealingPublicKey,
    *,
    name: str,
    facts: Mapping[str, str],
    issued_s: int,
) -> bytes:
    """The object that a client puts into the inbox to redeem ``ticket``."""
    if not is_name(name):
        raise UserError(f"{name[:80]!r} is no client name: use 1 to 64 of A-Z a-z 0-9 . _ -")
    document = sign_document(
        _ENROLMENT,
        signer=signer,
        group=ticket.group,
        addressee=ticket.issuer.fingerprint,
        serial=issued_s,
        issued_s=issued_s,
        expires_s=NEVER_S,  # the ticket's expiry and uses decide, and the register knows them
        body=_EnrolmentBody(secret=ticket.secret, name=name, sealing=SealKey.of(sealing), facts=dict(facts)),
    )
    return seal_document(document, ticket.sealing, kind=_ENROLMENT, group=ticket.group)


def open_enrolment(
    data: Buffer,
    *,
    keys: Sequence[SealingKey],
    group: str,
    tier: VerifyKey,
    now_s: float,
    accept: Accept = _anybody,
    former: Sequence[VerifyKey] = (),
) -> Enrolment:
    """A request sealed to one of ``keys`` and addressed to ``tier``, or to one of the keys that it had before
    (``former``): a ticket outlives them. It proves that the client holds its signing key; whether its secret is
    good is for ``Register.redeem`` to say."""
    signed = unseal_document(data, keys=keys, kind=_ENROLMENT, group=group)

    def opened_as(addressee: VerifyKey) -> Document:
        return open_document(
            signed, kind=_ENROLMENT, signer=accept, group=group, addressee=addressee.fingerprint, now_s=now_s
        )

    for key in former:
        try:
            return _enrolment(opened_as(key), group)
        except AuthenticationError:
            continue
    return _enrolment(opened_as(tier), group)


def _enrolment(document: Document, group: str) -> Enrolment:
    body = document.body_as(_EnrolmentBody)
    if not is_name(body.name):
        raise AuthenticationError(f"enrolment: {body.name[:80]!r} is no client name")
    return Enrolment(group, document.signer, body.sealing.public, body.name, body.facts, body.secret)
