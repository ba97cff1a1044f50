"""``cdr receive`` of a top tier: one pass over the inboxes under one lock of the repository.

The order of durable actions is that of docs/design/top-tier.md. A thread reads, opens and verifies
segments ahead; this thread stores what it yields.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

from cdr_plugin.errors import CdrError, IntegrityError, NotFoundError
from cdr_plugin.files import exclusive
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.identity.register import Client
from cdr_plugin.identity.register import ClientState as Registered
from cdr_plugin.parcel.head import Head, read_head
from cdr_plugin.parcel.naming import folder_id, head_name
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.answer import answered_fact
from cdr_plugin.top.enrolment import listed_with_new_clients
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of, is_cut_off, merged
from cdr_plugin.top.intake import Arrival
from cdr_plugin.top.keys import publish_keys
from cdr_plugin.top.landing_notes import landed_order
from cdr_plugin.top.policy import publish_policy
from cdr_plugin.top.result import ReceiveResult
from cdr_plugin.top.sender import SenderPass, Work
from cdr_plugin.top.snapshots import Snapshots
from cdr_plugin.top.strangers import note_strangers
from cdr_plugin.top.subject import Pass
from cdr_plugin.top.tier import TopTier
from cdr_plugin.unchanged import Unchanged, look_of

LOCK_S = 240.0
"""A pass ends at the next segment after this; then prune and check of others get their turn."""

_ENDED_WITH = "pass_ended_with"
_PASS = "pass"


def receive(top: TopTier, reporter: Reporter) -> ReceiveResult:
    """Take what is in the inboxes, commit what is complete, answer. LockedError when the repository
    is locked by somebody else: nothing is lost, the inboxes keep what they hold."""
    result = ReceiveResult()
    top.require_identity()
    with (
        exclusive(top.state_folder / "receive.lock", f"receiving of {top.name}"),
        Inboxes(top.plugins, top.inboxes, reporter, top.view, top.landing) as inboxes,
    ):
        top.before_passes(reporter)
        while _one_pass(top, inboxes, reporter, result):
            pass
        top.after_passes(reporter)
        result.inboxes_failed = inboxes.failures
    return result


def _one_pass(top: TopTier, inboxes: Inboxes, reporter: Reporter, result: ReceiveResult) -> bool:
    """One lock of the repository; whether more work waits for another."""
    listings = listed_with_new_clients(top, inboxes, reporter)
    told = publish_keys(top, inboxes, listings)
    publish_policy(top, inboxes, listings)
    work = _in_turn(top, list(_jobs(top, inboxes, listings, reporter)))
    if not work and not told and not top.state.get(_PASS) and not top.has_introductions():
        return False
    deadline_s = time.monotonic() + LOCK_S
    with (
        _noted(top),
        closing(top.open_repository()) as repository,
        repository.writing() as repo,
        top.passing_on(reporter, result) as onward,
    ):
        blob_bytes = int(repository.chunker["max_size"])
        pass_ = Pass(top, repo, Snapshots(repo), blob_bytes, inboxes, onward, reporter, result)
        last = next((job for job in work if not SenderPass(pass_, job, deadline_s).run()), None)
        top.end_pass(pass_, repository.id, listings, {job.sender.fingerprint for job in work})
        if last is not None:
            top.state.put({_ENDED_WITH: last.sender.name})
        return last is not None and onward.has_room()


def _in_turn(top: TopTier, work: list[Work]) -> list[Work]:
    """Those first who come behind the one with whom the last pass ended before its work was done: whoever sends
    more than a pass takes delays the others by one pass, not for as long as it sends."""
    ended_with = (top.state.get(_ENDED_WITH) or b"").decode()
    return sorted(work, key=lambda job: job.sender.name <= ended_with)


def call_for_a_pass(top: TopTier) -> None:
    """The next ``receive`` makes a pass even when nothing has come: there is something to tell the clients."""
    top.state.put({_PASS: "called for"})


@contextmanager
def _noted(top: TopTier) -> Iterator[None]:
    """A pass that was killed is followed by one, even when nothing has come since: its lock would
    keep restic from pruning."""
    top.state.put({_PASS: "under way"})
    try:
        yield
    finally:
        with suppress(CdrError):  # a needless pass follows, and does no harm
            top.state.put({_PASS: ""})


def _jobs(top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox], reporter: Reporter) -> Iterator[Work]:
    """Senders for which there is something to do, in the order of their names."""
    clients = top.register.clients(top.group)
    folders = {folder_id(client.key, top.group): client for client in clients if not client.via}
    note_strangers(top, inboxes, listings, reporter)
    below_of: defaultdict[bytes, list[Client]] = defaultdict(list)
    # Something is to be done for these although nothing of them arrived.
    waiting = top.state.with_waiting() | top.with_news()
    for other in clients:
        if other.via and other.fingerprint in waiting and other.state is Registered.APPROVED:
            below_of[other.via].append(other)
    heads = Unchanged(top.state, "heads", time.time())
    for folder, client in folders.items():
        arrivals = merged(listings, folder)
        if client.state is not Registered.APPROVED:
            if arrivals:
                reporter.note(f"client {client.name}: {client.state}; its segments are left where they are")
            continue
        below = below_of[client.fingerprint]
        is_called_for = bool(arrivals or below or client.fingerprint in waiting)
        look = look_of(listing.heads.get(folder) for listing in listings)
        if not is_called_for and (not _has_head(listings, folder) or (folder, look) in heads):
            continue
        head = newest_head(top, inboxes, listings, client, reporter)
        if is_called_for or _must_answer(top, client, head):
            yield _job(top, inboxes, listings, client, arrivals, head, below)
        elif head is not None:
            heads.read(folder, look)
    heads.save()


def _has_head(listings: Sequence[Inbox], folder: str) -> bool:
    return any(listing.has_head(folder) for listing in listings)


def _job(
    top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox], client: Client, arrivals: list[Arrival],
    head: Head | None, below: Sequence[Client],
) -> Work:  # fmt: skip
    folder, rows = folder_id(client.key, top.group), top.state.client(client.fingerprint)
    in_order = ordered(arrivals, head, landed_order(top.landing, client.fingerprint))
    has_more = is_cut_off(listings, folder)
    return Work(client, rows, homes_of(folder, inboxes, listings), head, in_order, below, has_more)


def _must_answer(top: TopTier, client: Client, head: Head | None) -> bool:
    """A head that no receipt has answered yet: something may be missing, or it is the first."""
    return head is not None and _answered(top, client) < head.serial


def _answered(top: TopTier, client: Client) -> int:
    """Serial of the newest head that a receipt has answered; older ones are replays."""
    return int(top.state.get(answered_fact(client)) or b"0")


def newest_head(
    top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox], client: Client, reporter: Reporter
) -> Head | None:
    """The newest of the client's heads: each inbox has one, and each names all parcels."""
    folder = folder_id(client.key, top.group)
    found: list[Head] = []
    answered = _answered(top, client)
    for listing in listings:
        if not listing.has_head(folder):
            continue
        with inboxes.using(listing.transport):
            try:
                data = listing.transport.get(head_name(folder), 0, MAX_DOCUMENT_BYTES + 1)
                head = read_head(data, signer=client.key, group=top.group, now_s=time.time(), lowest_serial=answered)
                found.append(head[1])
            except NotFoundError:
                continue
            except IntegrityError as error:
                problem = f"{error}; segments are taken in the order of their names"
                reporter.error(head_name(folder), "receive", problem)
    return max(found, key=lambda head: head.serial, default=None)


def ordered(arrivals: list[Arrival], head: Head | None, landed: Sequence[bytes] = ()) -> list[Arrival]:
    """By the head's order of parcels, then by index. Parcels that it does not name come last; but first those that
    have landed, in this order, since their sender knows them to be taken."""
    named = dict.fromkeys(parcel.id for parcel in head.parcels) if head else {}
    before = [parcel for parcel in landed if parcel not in named]
    order = {parcel: at for at, parcel in enumerate([*before, *named])}
    return sorted(arrivals, key=lambda a: (order.get(a.parcel_id, len(order)), a.parcel_id, a.index))
