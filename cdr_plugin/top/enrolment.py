"""Admitting clients: requests in the inbox that redeem a ticket of ours."""

from __future__ import annotations

import time

from cdr_plugin.errors import AuthenticationError, CdrError, NotFoundError, UserError
from cdr_plugin.identity.register import Client
from cdr_plugin.identity.ticket import Enrolment, open_enrolment
from cdr_plugin.parcel.naming import EnrolmentName, folder_id
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.inbox import MAX_ENROLMENT_BYTES, Inbox
from cdr_plugin.top.strangers import note_request
from cdr_plugin.top.tier import TopTier


def admit_clients(top: TopTier, inbox: Inbox, reporter: Reporter) -> list[Client]:
    """Redeem what can be redeemed. A request that is refused is reported and stays where it is."""
    admitted = []
    for object_name, name in inbox.enrolments:
        try:
            data = inbox.transport.get(object_name, 0, MAX_ENROLMENT_BYTES)
            if any(_opens(top, data, group) for group in top.other_groups()):
                continue  # several groups may share an inbox
            enrolment = _open(top, data, top.group)
            _check_folder(name, folder_id(enrolment.client, top.group))
            client = _redeem(top, enrolment)
        except NotFoundError:
            continue
        except CdrError as error:
            reporter.error(object_name, "receive", error)
            continue
        inbox.transport.delete(object_name)
        reporter.note(f"client {client.name} enrolled in group {client.group} ({client.fingerprint.hex()[:16]})")
        admitted.append(client)
    return admitted


def _open(top: TopTier, data: bytes, group: str) -> Enrolment:
    return open_enrolment(
        data,
        keys=top.identity.sealing_keys(group),
        group=group,
        tier=top.identity.signing.public,
        former=[one.verify_key for one in top.identity.predecessors],
        now_s=time.time(),
    )


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
