"""Telling clients that a key of this tier was replaced, until each has been told.

Nothing is said by a tier that never replaced a key: its tickets say all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256

from cdr_plugin.contracts import Transport
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.identity.wire import frame
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.tier_keys import write_tier_keys
from cdr_plugin.top.digest import digest_fact
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of
from cdr_plugin.top.tier import TopTier, news_fact


def publish_keys(top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox]) -> bool:
    """Write the keys into the inboxes of every approved client that was not told yet, or has sent something since
    and would not find them there; whether any was told. Before any receipt, which the newest key signs. One that
    came through another tier seals to that, but hears of its versions from us: it needs our signing key alone."""
    if not top.identity.has_rotated(top.group):
        return False
    told = False
    for client in top.register.clients(top.group):
        if client.state is ClientState.APPROVED and (top.identity.predecessors or not client.via):
            folder = folder_id(client.key, top.group)
            name = answer_name(folder, Answer.TOP_KEYS if client.via else Answer.KEYS)
            homes = homes_of(folder, inboxes, listings)
            has_sent = any(listing.segments(folder) for listing in listings)
            told |= _publish(top, client, name, inboxes, homes, look=has_sent)
    return told


def _digest(top: TopTier, client: Client) -> bytes:
    """Equal as long as the client is to be told the same."""
    signing, sealing = top.identity.signing.public, top.identity.sealing_key(top.group).public
    return sha256(frame(b"keys", signing.fingerprint, b"" if client.via else sealing.fingerprint)).digest()


def _publish(
    top: TopTier, client: Client, name: str, inboxes: Inboxes, homes: Sequence[Transport], *, look: bool
) -> bool:
    """The note of what was said is made behind the saying, and only when no inbox was left out."""
    said, digest = f"keys:{client.fingerprint.hex()}", _digest(top, client)
    if top.state.get(said) == digest and not (look and inboxes.lack(name, homes)):
        return False
    data = write_tier_keys(
        top.state.next_serial(said),
        top.identity.sealing_key(top.group).public,
        top.identity.signing,
        top.identity.predecessors,
        client=client.key,
        sealing=client.sealing,
        group=top.group,
        issued_s=int(time.time()),
    )
    for inbox in inboxes.reachable(homes):
        with inboxes.using(inbox):
            inbox.put(name, data, overwrite=True)
    if not inboxes.failures:
        top.state.put({said: digest} | _to_be_told_again(top, client))
    return True


def _to_be_told_again(top: TopTier, client: Client) -> dict[str, bytes | str]:
    """A receipt that was not read yet may be signed by a key of before, which will say nothing then: it is written
    anew. Of a tier, about every client below it, and its digest as well."""
    if client.via:
        return {}  # as what it came through is told
    told = {news_fact(one): "1" for one in top.register.clients(top.group) if client.fingerprint == one.via}
    return {news_fact(client): "1", digest_fact(client): "", **told}
