"""Unknown senders in the inboxes: one header of each is kept and reported, the rest stays where it is.

Anybody who reaches the storage can put folders there, so a pass opens, keeps and names a bounded number of them.
Nothing of theirs is taken, answered or deleted but by the operator's word, ``cdr clients approve`` or ``refuse``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from cdr_plugin.errors import CdrError, FormatError, IntegrityError, RemoteError
from cdr_plugin.identity.keys import VerifyKey, short
from cdr_plugin.identity.strangers import Stranger
from cdr_plugin.identity.ticket import Enrolment
from cdr_plugin.parcel.naming import CLIENTS, folder_id
from cdr_plugin.parcel.segment import MAX_START_BYTES, read_sender
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.few import few_errors
from cdr_plugin.top.inbox import Inbox, Inboxes, merged
from cdr_plugin.top.intake import Arrival
from cdr_plugin.top.tier import TopTier

MAX_OPENED = 64
"""Headers opened in one pass, at 0.2 ms each and a look at the storage; the others wait for the next."""

_OTHER_GROUP = None


def note_request(top: TopTier, enrolment: Enrolment, why: CdrError) -> None:
    """Remember who asked to be known and was refused, so that the operator can approve; not of who is known."""
    if top.register.find(enrolment.client, top.group) is not None:
        return
    stranger = Stranger(
        top.group,
        folder_id(enrolment.client, top.group),
        enrolment.client,
        str(why),
        enrolment.name,
        enrolment.sealing,
        enrolment.facts,
        enrolment.ticket_id,
        int(time.time()),
    )
    top.register.strangers.put(stranger)


def note_strangers(top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox], reporter: Reporter) -> None:
    """Keep a header of each unknown sender, and report them."""
    known = {folder_id(client.key, client.group) for client in top.register.clients() if not client.via}
    folders = sorted({folder for listing in listings for folder in listing.unknown(known)})
    arrivals = {folder: merged(listings, folder) for folder in folders}
    if not inboxes.failures:
        asking = {name.folder for listing in listings for _, name in listing.enrolments}
        present = {folder: (len(found), sum(a.size for a in found)) for folder, found in arrivals.items()}
        seen = {**dict.fromkeys(asking - known, (0, 0)), **present}
        top.register.strangers.saw(top.group, seen, is_all=all(listing.has_all_unknown for listing in listings))
    kept = {stranger.folder for stranger in top.register.strangers.all(top.group)}
    fresh = [folder for folder in folders if folder not in kept][:MAX_OPENED]
    found = {folder: _keep(top, inboxes, folder, arrivals[folder]) for folder in fresh}
    _report([folder for folder in folders if found.get(folder, "") is not _OTHER_GROUP], found, reporter)


def _report(folders: Sequence[str], problems: Mapping[str, str | None], reporter: Reporter) -> None:
    with few_errors(reporter, CLIENTS, "unknown senders; see 'cdr clients'") as error:
        for folder in folders:
            problem = problems.get(folder) or "see 'cdr clients'"
            error(f"{CLIENTS}/{folder}", f"unknown sender; left where it is, {problem}")


def _keep(top: TopTier, inboxes: Inboxes, folder: str, arrivals: Sequence[Arrival]) -> str | None:
    """Keep the header of the first segment; what is wrong, if anything, or ``_OTHER_GROUP``: the tier has other groups
    in the same inbox, and it is for one of them."""
    first = min(arrivals, key=lambda arrival: arrival.name)
    try:
        group, sender, header = _sender(top, inboxes, first)
    except CdrError as error:
        return str(error)
    if group != top.group:
        return _OTHER_GROUP
    if folder_id(sender, group) != folder:
        return f"{first.label}: of {short(sender.fingerprint)}, who has another folder"
    found = Stranger(
        group,
        folder,
        sender,
        "no request to be known",
        first_s=int(time.time()),
        segments=len(arrivals),
        bytes=sum(arrival.size for arrival in arrivals),
    )
    return "" if top.register.strangers.put(found, header) else "too many of them are kept already; see 'cdr clients'"


def _sender(top: TopTier, inboxes: Inboxes, arrival: Arrival) -> tuple[str, VerifyKey, bytes]:
    """Who sealed a segment, for which of the tier's groups, and the bytes that prove it."""
    problem: CdrError = FormatError(f"{arrival.label}: no inbox that has it can be read")
    for inbox in inboxes.reachable(inbox for inbox, _ in arrival.places):
        try:
            start = inbox.get(arrival.name, 0, MAX_START_BYTES)
        except RemoteError as error:
            problem = error
            continue
        for group in (*top.other_groups(), top.group):  # last ours, whose error is the one to tell
            try:
                keys = top.identity.sealing_keys(group)
                sender = read_sender(start, group=group, keys=keys, parcel_id=arrival.parcel_id, index=arrival.index)
                return group, sender, start
            except IntegrityError as error:
                problem = error
    raise problem


def refuse(top: TopTier, stranger: Stranger, reporter: Reporter) -> int:
    """Delete what an unknown sender has put into the inboxes, and forget it; how many objects went. It may come
    again: only who writes into the storage can be kept from that, by the storage."""
    deleted = 0
    prefix = f"{CLIENTS}/{stranger.folder}"
    with Inboxes(top.plugins, top.inboxes, reporter, top.view) as inboxes:
        for inbox in inboxes:
            with inboxes.using(inbox):
                for info in list(inbox.list(prefix)):
                    inbox.delete(info.name)
                    deleted += 1
    top.register.strangers.forget(stranger)
    return deleted
