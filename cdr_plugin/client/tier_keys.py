"""Learning that the tier above has new keys, so that the next parcel is sealed to the newest.

Read before receipts, which the newest key may have signed. What is adopted is durable before anything is sealed to
it; segments that were sealed before stay as they are: the tier keeps its older keys for them.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import replace

from cdr_plugin.client.tier import OLDER_KEYS_UNTIL, ClientTier
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import AuthenticationError, IntegrityError, NotFoundError, RemoteError
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES, Accept
from cdr_plugin.identity.keys import SealingPublicKey, VerifyKey, short
from cdr_plugin.identity.ticket import Ticket, TierKey
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.tier_keys import TierKeys, read_tier_keys
from cdr_plugin.reporter import Reporter
from cdr_plugin.tier_state import TierState

SIGNING, SEALING, SERIAL = "tier_signing", "tier_sealing", "tier_keys_serial"
"""Facts of the client's state: what replaces the ticket's keys, as text, and the document that said so."""
FORMER = "tier_former"
"""Fact of the client's state: signing keys that were trusted before, a line each."""

TOP_SIGNING, TOP_SERIAL, TOP_FORMER = "top_signing", "top_keys_serial", "top_former"
"""The same of the top tier, where that is another: what it says comes down unchanged."""

FORGOTTEN = {SIGNING: "", SEALING: "", SERIAL: "", FORMER: "", TOP_SIGNING: "", TOP_SERIAL: "", TOP_FORMER: ""}
"""A new ticket has the keys of its day."""


class FormerKeyError(AuthenticationError):
    """A document signed by a key that the tier above has replaced: it lies there until the next one, and says nothing
    any more."""


def tier_signer(client: ClientTier) -> Accept:
    """Judges who may sign for the tier above."""
    return _judge(client.ticket.issuer, _former(client, FORMER))


def top_signer(client: ClientTier) -> Accept:
    """Judges who may sign for the tier that holds the repository."""
    return _judge(client.ticket.top, _former(client, TOP_FORMER)) if _is_above_another(client) else tier_signer(client)


def _judge(present: VerifyKey, former: Collection[str]) -> Accept:
    def accept(key: VerifyKey) -> None:
        if key.text in former:
            raise FormerKeyError(f"signed by {short(key.fingerprint)}, which was replaced")
        if key != present:
            raise AuthenticationError(f"signed by {short(key.fingerprint)}, expected {short(present.fingerprint)}")

    return accept


def _is_above_another(client: ClientTier) -> bool:
    """Is the top tier not the one that we seal to?"""
    return len(client.ticket.tiers) > 1


def _former(client: ClientTier, fact: str) -> list[str]:
    return (client.state.get(fact) or b"").decode().splitlines()


def with_newest_keys(ticket: Ticket, state: TierState) -> Ticket:
    """The ticket with the keys that its issuer, and the top tier, told us since, if any."""
    signing, sealing, top = state.get(SIGNING), state.get(SEALING), state.get(TOP_SIGNING)
    if top and len(ticket.tiers) > 1:
        newest = TierKey(name=ticket.tiers[-1].name, key=VerifyKey.from_text(top.decode()).raw)
        ticket = replace(ticket, tiers=(*ticket.tiers[:-1], newest))
    if not signing or not sealing:
        return ticket
    issuer = VerifyKey.from_text(signing.decode())
    tiers = [TierKey(name=one.name, key=issuer.raw) if one.key == ticket.issuer.raw else one for one in ticket.tiers]
    return replace(ticket, issuer=issuer, tiers=tuple(tiers), sealing=SealingPublicKey.from_text(sealing.decode()))


def read_keys_of_tier(client: ClientTier, storages: Iterable[Transport], folder: str, reporter: Reporter) -> None:
    """Adopt the newest keys that any of the storages has, if they are newer than those that are known: of the tier
    above, and of the top tier where that is another."""
    places = list(storages)
    newest = _newest_in(client, places, answer_name(folder, Answer.KEYS), reporter)
    if newest is not None and _is_newer(client, newest):
        _adopt(client, newest, reporter)
    if _is_above_another(client):
        newest = _newest_in(client, places, answer_name(folder, Answer.TOP_KEYS), reporter)
        if newest is not None and newest.serial > int(client.state.get(TOP_SERIAL) or b"0"):
            _adopt_top(client, newest)


def _newest_in(client: ClientTier, storages: Iterable[Transport], name: str, reporter: Reporter) -> TierKeys | None:
    found = []
    for storage in storages:
        try:
            found.append(_read_in(client, storage, name, reporter))
        except RemoteError as error:
            reporter.note(f"client {client.name}: {error}; the keys of the tiers above are read another time")
    return max((keys for keys in found if keys is not None), key=lambda keys: keys.serial, default=None)


def _read_in(client: ClientTier, storage: Transport, name: str, reporter: Reporter) -> TierKeys | None:
    ticket = client.ticket
    try:
        keys = read_tier_keys(
            storage.get(name, 0, MAX_DOCUMENT_BYTES + 1),
            keys=client.identity.sealing_keys(ticket.group),
            trusted=ticket.top if name.endswith(Answer.TOP_KEYS) else ticket.issuer,
            client=client.identity.signing.public,
            group=ticket.group,
            now_s=time.time(),
        )
        if keys.sealing.suite is not ticket.sealing.suite:
            raise AuthenticationError(
                f"keys: a sealing key of suite {keys.sealing.suite.label}, the ticket says {ticket.sealing.suite.label}"
            )
    except NotFoundError:
        return None
    except IntegrityError as error:
        reporter.error(name, "receive", f"{error}; ignored")
        return None
    return keys


def _is_newer(client: ClientTier, keys: TierKeys) -> bool:
    """Storage may replay what was said before the ticket, or before what was adopted last."""
    return keys.serial > int(client.state.get(SERIAL) or b"0") and keys.issued_s >= client.ticket.issued_s


def _adopt(client: ClientTier, keys: TierKeys, reporter: Reporter) -> None:
    before = client.ticket
    facts = {SIGNING: keys.signing.text, SEALING: keys.sealing.text, SERIAL: str(keys.serial)}
    if keys.signing != before.issuer:
        facts[FORMER] = "".join(f"{line}\n" for line in (*_former(client, FORMER), before.issuer.text))
    if keys.sealing != before.sealing:
        facts[OLDER_KEYS_UNTIL] = str(client.state.newest_parcel())
    client.state.put(facts)
    client.forget_ticket()
    if (keys.signing, keys.sealing) != (before.issuer, before.sealing):
        reporter.note(
            f"client {client.name}: the tier above has a new key; what is made from now on is sealed to "
            f"{short(keys.sealing.fingerprint)}"
        )


def _adopt_top(client: ClientTier, keys: TierKeys) -> None:
    before = client.ticket.top
    facts = {TOP_SIGNING: keys.signing.text, TOP_SERIAL: str(keys.serial)}
    if keys.signing != before:
        facts[TOP_FORMER] = "".join(f"{line}\n" for line in (*_former(client, TOP_FORMER), before.text))
    client.state.put(facts)
    client.forget_ticket()
