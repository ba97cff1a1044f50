"""What the tiers above say of the clients below, on its way down.

What is sealed to a client is copied untouched. What is said of a client to this tier (a *relayed receipt*) is taken
in, and told to the client in a receipt of this tier's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from cdr_plugin.client.answer_reading import read_answer
from cdr_plugin.client.tier_keys import tier_signer
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import IntegrityError, NotConvenientError, NotFoundError
from cdr_plugin.files import exclusive
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.identity.register import Client
from cdr_plugin.intermediate.answers import bring_answers
from cdr_plugin.parcel.digest import read_digest, read_digest_part
from cdr_plugin.parcel.naming import (
    ANSWERS,
    Answer,
    AnswerName,
    ObjectName,
    PartName,
    answer_name,
    folder_id,
    part_name,
)
from cdr_plugin.parcel.receipt import Receipt, read_receipt
from cdr_plugin.parcel.sealed import Addressee
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reducing.uplink import Uplink
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.answer import Answerer
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of, is_cut_off, merged
from cdr_plugin.top.receive import newest_head
from cdr_plugin.unchanged import Unchanged, look_of

_OURS = (Answer.RECEIPT, Answer.ENROLMENT, Answer.KEYS, Answer.NOTICE, Answer.DIGEST)
"""What a client hears from the tier that it seals to, and from no other."""


def take_relayed(
    tier: ReducingTier, uplink: Uplink, storages: Mapping[str, Transport], reporter: Reporter
) -> None:
    """Take in the newest relayed receipt about each client, behind the uplink's own receipt: what that says to be
    taken, these speak of. One that looks in a listing as it did when it was taken in is not read again."""
    looks = {url: Unchanged(uplink.state, f"relayed {url}", time.time()) for url in storages}
    newest: dict[bytes, Receipt] = {}
    for url, storage in storages.items():
        for client, receipt in _unread(tier, uplink, storage, looks[url], reporter):
            before = newest.setdefault(client.fingerprint, receipt)
            newest[client.fingerprint] = max(before, receipt, key=lambda one: one.serial)
    for fingerprint, receipt in newest.items():
        if receipt.serial > uplink.state.relayed_serial(fingerprint):
            uplink.state.take_relayed(fingerprint, receipt)
    for unchanged in looks.values():
        unchanged.save()


def _unread(
    tier: ReducingTier, uplink: Uplink, storage: Transport, unchanged: Unchanged, reporter: Reporter
) -> Iterator[tuple[Client, Receipt]]:
    """What a storage says that has not been read there before."""
    listed = {info.name: info for info in storage.list(ANSWERS)}
    for client in tier.register.makers(tier.group):
        name = answer_name(folder_id(client.key, uplink.ticket.group), Answer.RECEIPT)
        info = listed.get(name)
        look = look_of([info])
        if (name, look) in unchanged or (info is None and not unchanged.rereads):
            continue
        opens = partial(read_receipt, about=client.fingerprint)
        receipt = read_answer(uplink, storage, name, opens, tier_signer, reporter)
        if receipt is not None:
            unchanged.read(name, look)
            yield client, receipt


def take_digest(tier: ReducingTier, uplink: Uplink, storage: Transport, reporter: Reporter) -> None:
    """Take in what is new of the digest in a storage above. A hint: what is wrong with it costs bytes only."""
    folder = folder_id(tier.identity.signing.public, tier.group)
    reader = Addressee(
        tier.identity.sealing_keys(tier.group), uplink.above, tier.identity.signing.public, tier.group, time.time()
    )
    try:
        digest = read_digest(storage.get(answer_name(folder, Answer.DIGEST), 0, MAX_DOCUMENT_BYTES + 1), reader)
        if digest.serial < int(uplink.state.get("digest_serial") or b"0"):
            return
        epoch, taken = uplink.state.digest_parts
        if epoch != digest.epoch:
            uplink.state.begin_digest(digest.epoch, digest.key)
            taken = 0
        for number in range(taken, len(digest.parts)):
            data = storage.get(part_name(folder, Answer.DIGEST, number), 0, MAX_DOCUMENT_BYTES + 1)
            uplink.state.add_digest_part(number, read_digest_part(data, digest, number, reader))
        uplink.state.put({"digest_serial": str(digest.serial)})
    except NotFoundError:
        return
    except IntegrityError as error:
        reporter.note(f"tier {tier.name}: {error}; what the tiers above know is taken in another time")


def carry_down(
    tier: ReducingTier,
    uplink: Uplink,
    above: Mapping[str, Transport],
    inboxes: Sequence[Transport],
    reporter: Reporter,
) -> int:
    """Copy what the top tier sealed to our clients into our inboxes; how many objects were new there."""
    folders = {folder_id(client.key, tier.group) for client in tier.register.makers(tier.group)}

    def is_wanted(name: ObjectName) -> bool:
        if isinstance(name, AnswerName):
            return name.folder in folders and name.answer not in _OURS
        return isinstance(name, PartName) and name.folder in folders

    return bring_answers(above, inboxes, uplink.state, reporter, is_wanted)


def tell_news(tier: ReducingTier, reporter: Reporter) -> None:
    """Write receipts for the clients of which the tiers above said something. When a pass is at work, it does."""
    if not tier.with_news():
        return
    try:
        with (
            exclusive(tier.state_folder / "receive.lock", f"receiving of {tier.name}"),
            Inboxes(tier.plugins, tier.inboxes, reporter, tier.view) as inboxes,
        ):
            _tell(tier, inboxes, inboxes.listings(), reporter)
    except NotConvenientError:
        return


def _tell(tier: ReducingTier, inboxes: Inboxes, listings: Sequence[Inbox], reporter: Reporter) -> None:
    clients = tier.register.clients(tier.group)
    senders = {client.fingerprint: client for client in clients if not client.via}
    news = tier.with_news()
    for client in (client for client in clients if client.fingerprint in news):
        sender = senders.get(client.via or client.fingerprint)
        if sender is None:
            continue
        folder = folder_id(sender.key, tier.group)
        answerer = Answerer(tier, sender, inboxes, homes_of(folder, inboxes, listings))
        rows = tier.state.client(client.fingerprint)
        if client.via:
            answerer.write_about(client, rows)
        else:
            head = newest_head(tier, inboxes, listings, client, reporter)
            present = {(arrival.parcel_id, arrival.index) for arrival in merged(listings, folder)}
            answerer.write(rows, rows, head, present, is_all=not is_cut_off(listings, folder), final=False)
        if not inboxes.failures:
            tier.told_news(client)
