"""Publishing what the repository still has of each client.

Whoever removes snapshots, be it stock restic, changes what a client may build on. So every pass compares
what it found with what was said last, for all clients, and says it anew where it differs.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from functools import partial

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.parcel.limits import MAX_STANDING_VERSIONS
from cdr_plugin.parcel.naming import Answer
from cdr_plugin.parcel.standing import PresentVersion, Standing, write_standing
from cdr_plugin.top.commit import VersionTag
from cdr_plugin.top.inbox import Inbox, Inboxes
from cdr_plugin.top.saying import Saying
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
    saying = Saying(top, Answer.STANDING, inboxes, listings, present_clients)
    for client in top.register.makers(top.group):
        if client.state is ClientState.APPROVED:
            newest = newest_committed(top.state.client(client.fingerprint).versions())
            standing = _standing(repository, newest, present[client.fingerprint[:16]])
            saying.say(client, standing.body(), partial(_write, top, client, standing))


def _standing(
    repository: str, newest: VersionRow | None, present: dict[PresentVersion, Snapshot]
) -> Standing:
    listed = sorted(present)[-MAX_STANDING_VERSIONS:]
    if newest is None:
        return Standing(0, repository, versions=listed)
    snapshot = present.get(PresentVersion(newest.number, newest.hash))
    tree = bytes.fromhex(snapshot.tree) if snapshot else b""
    return Standing(0, repository, newest.number, newest.hash, tree, newest.time, listed)


def _write(top: TopTier, client: Client, standing: Standing, serial: int) -> bytes:
    return write_standing(
        replace(standing, serial=serial),
        top.identity.signing,
        client=client.key,
        sealing=client.sealing,
        group=top.group,
        issued_s=int(time.time()),
    )
