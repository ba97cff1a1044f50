"""Admitting clients: requests in the inbox that redeem a ticket of ours."""

from __future__ import annotations

import time
from contextlib import suppress

from cdr_plugin.errors import AuthenticationError, CdrError, NotFoundError, UserError
from cdr_plugin.identity.register import Client
from cdr_plugin.identity.successor import Successor, open_successor
from cdr_plugin.identity.ticket import Enrolment, open_enrolment
from cdr_plugin.parcel.naming import CLIENTS, EnrolmentName, folder_id
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.few import few_errors
from cdr_plugin.top.inbox import MAX_ENROLMENT_BYTES, Inbox, Inboxes
from cdr_plugin.top.strangers import note_request
from cdr_plugin.top.tier import TopTier


def listed_with_new_clients(top: TopTier, inboxes: Inboxes, reporter: Reporter) -> list[Inbox]:
    """Admit who asks, and list the inboxes as they are then: of the unknown not everything is shown."""
    listings = inboxes.listings()
    admitted = []
    for listing in listings:
        with inboxes.using(listing.transport):
            admitted += admit_clients(top, listing, reporter)
    return inboxes.listings() if admitted else listings


def admit_clients(top: TopTier, inbox: Inbox, reporter: Reporter) -> list[Client]:
    """Redeem what can be redeemed. A request that is refused is reported and stays where it is."""
    admitted = []
    with few_errors(reporter, CLIENTS, "requests to be known are refused") as error:
        for object_name, name in inbox.enrolments:
            try:
                data = inbox.transport.get(object_name, 0, MAX_ENROLMENT_BYTES)
                if any(_opens(top, data, group) for group in top.other_groups()):
                    continue  # several groups may share an inbox
                client, what = _admit(top, name, _open(top, data, top.group))
            except NotFoundError:
                continue
            except CdrError as problem:
                error(object_name, problem)
                continue
            inbox.transport.delete(object_name)
            key = client.key.fingerprint.hex()[:16]
            reporter.note(f"client {client.name} {what} in group {client.group} ({key})")
            admitted.append(client)
    return admitted


def _admit(top: TopTier, name: EnrolmentName, request: Enrolment | Successor) -> tuple[Client, str]:
    """The client, and what it is now, for people."""
    if isinstance(request, Enrolment):
        _check_folder(name, folder_id(request.client, top.group))
        return _redeem(top, request), "enrolled"
    _check_folder(name, folder_id(request.key, top.group))
    if not top.is_end:
        raise UserError("a client has new keys, which the tiers above would not learn; enrol it anew")
    return top.register.succeed(request), "has new keys"


def _open(top: TopTier, data: bytes, group: str) -> Enrolment | Successor:
    """A request to be known, or one to be known by another key; the error is that of the first."""
    keys, now_s = top.identity.sealing_keys(group), time.time()
    present, *former = top.identity.verify_keys
    try:
        return open_enrolment(data, keys=keys, group=group, tier=present, former=former, now_s=now_s)
    except AuthenticationError:
        with suppress(AuthenticationError):
            return open_successor(data, keys=keys, group=group, tiers=(*former, present), now_s=now_s)
        raise


def _opens(top: TopTier, data: bytes, group: str) -> bool:
    try:
        _open(top, data, group)
    except CdrError:
        return False
    return True


def _redeem(top: TopTier, enrolment: Enrolment) -> Client:
    """Who is refused is remembered: the operator may approve."""
    try:
        return top.register.redeem(enrolment, now_s=time.time())
    except (AuthenticationError, UserError) as error:
        note_request(top, enrolment, error)
        raise


def _check_folder(name: EnrolmentName, folder: str) -> None:
    if name.folder != folder:
        raise CdrError("this request lies in another client's folder; refused")
