"""Publishing what the repository still has of each client.

Whoever removes snapshots, be it stock restic, changes what a client may build on. So every pass compares
what it found with what was said last, for all clients, and says it anew where it differs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from hashlib import sha256

from cdr_plugin.contracts import StoredVersion, Transport
from cdr_plugin.identity.register import Client, ClientState, SenderKind
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.parcel.limits import MAX_STANDING_VERSIONS
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.standing import PresentVersion, Standing, write_standing
from cdr_plugin.top.commit import VersionTag
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of
from cdr_plugin.top.state import VersionRow, newest_committed
from cdr_plugin.top.tier import TopTier


def publish_standings(
    top: TopTier,
    repository: str,
    versions: Iterable[StoredVersion],
    inboxes: Inboxes,
    listings: Sequence[Inbox],
    present_clients: Container[bytes],
) -> None:
    """Write the standing of every approved client into its inboxes, unless it says what was said last.

    For ``present_clients`` (fingerprints: those that sent something) it is made sure that it is still there.
    ``repository`` is the ID, ``versions`` what is there now, under the lock. What is cut short is made good by
    the next pass.
    """
    present: dict[bytes, dict[PresentVersion, Snapshot]] = defaultdict(dict)
    for version in versions:
        for tag in filter(None, map(VersionTag.parse, version.snapshot.tags)):
            present[tag.client][PresentVersion(tag.number, tag.record_hash)] = version.snapshot
    for client in top.register.clients(top.group):
        if client.state is ClientState.APPROVED and client.kind is SenderKind.CLIENT:
            newest = newest_committed(top.state.client(client.fingerprint).versions())
            standing = _standing(repository, newest, present[client.fingerprint[:16]])
            homes = homes_of(folder_id(client.key, top.group), inboxes, listings)
            _publish(top, client, standing, inboxes, homes, client.fingerprint in present_clients)


def _standing(
    repository: str, newest: VersionRow | None, present: dict[PresentVersion, Snapshot]
) -> Standing:
    listed = sorted(present)[-MAX_STANDING_VERSIONS:]
    if newest is None:
        return Standing(0, repository, versions=listed)
    snapshot = present.get(PresentVersion(newest.number, newest.hash))
    tree = bytes.fromhex(snapshot.tree) if snapshot else b""
    return Standing(0, repository, newest.number, newest.hash, tree, newest.time, listed)


def _publish(
    top: TopTier,
    client: Client,
    standing: Standing,
    inboxes: Inboxes,
    homes: Sequence[Transport],
    look: bool,
) -> None:
    """The note of what was said is made behind the saying, and only when no inbox was left out."""
    name = answer_name(folder_id(client.key, top.group), Answer.STANDING)
    said = f"standing:{client.fingerprint.hex()}"
    signer = top.identity.signing.public.raw if top.identity.predecessors else b""
    digest = sha256(standing.body() + signer).digest()  # what a key of before has signed is said anew
    if top.state.get(said) == digest and not (look and inboxes.lack(name, homes)):
        return
    standing = Standing(
        top.state.next_serial(said), standing.repository, standing.number, standing.record, standing.tree,
        standing.time, standing.versions,
    )  # fmt: skip
    data = write_standing(
        standing,
        top.identity.signing,
        client=client.key,
        sealing=client.sealing,
        group=top.group,
        issued_s=int(time.time()),
    )
    for inbox in inboxes.reachable(homes):
        with inboxes.using(inbox):
            inbox.put(name, data, overwrite=True)
    if not inboxes.failures:
        top.state.put({said: digest})
