"""Publishing what the repository still has of each client.

Whoever removes snapshots, be it stock restic, changes what a client may build on. So every pass compares
what it found with what was said last, for all clients, and says it anew where it differs.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import replace
from functools import partial

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.parcel.limits import MAX_STANDING_VERSIONS
from cdr_plugin.parcel.naming import Answer
from cdr_plugin.parcel.standing import PresentVersion, Standing, write_standing
from cdr_plugin.top.inbox import Inbox, Inboxes
from cdr_plugin.top.saying import Saying
from cdr_plugin.top.snapshots import Snapshots
from cdr_plugin.top.state import VersionRow
from cdr_plugin.top.tier import TopTier
from cdr_plugin.top.version_tags import VersionTag


def publish_standings(
    top: TopTier,
    repository: str,
    snapshots: Snapshots,
    inboxes: Inboxes,
    listings: Sequence[Inbox],
    present_clients: Container[bytes],
) -> None:
    """Write the standing of every approved client into its inboxes, unless it says what was said last.

    For ``present_clients`` (fingerprints: those that sent something) it is made sure that it is still there.
    ``repository`` is the ID, ``snapshots`` what is there now, under the lock. What is cut short is made good by
    the next pass.
    """
    newest = top.state.newest_committed()
    saying = Saying(top, Answer.STANDING, inboxes, listings, present_clients)
    for client in top.register.makers(top.group):
        if client.state is ClientState.APPROVED:
            last = newest.get(client.fingerprint)
            says = _says(repository, last, snapshots.tagged(client.fingerprint))
            saying.say(client, says, partial(_write, top, client, repository, last, snapshots))


def _says(repository: str, newest: VersionRow | None, tagged: Sequence[tuple[str, StoredVersion]]) -> bytes:
    """Equal for equal standings: what they are made of, as it is found, since most say what they said before."""
    own = "" if newest is None else f"{newest.number} {newest.hash.hex()} {newest.time}"
    found = sorted({f"{tag} {version.snapshot.tree}" for tag, version in tagged})
    return "\n".join([repository, own, *found]).encode()


def _standing(
    repository: str, newest: VersionRow | None, versions: Sequence[tuple[VersionTag, StoredVersion]]
) -> Standing:
    present = {PresentVersion(tag.number, tag.record_hash): version.snapshot for tag, version in versions}
    listed = sorted(present)[-MAX_STANDING_VERSIONS:]
    if newest is None:
        return Standing(0, repository, versions=listed)
    snapshot = present.get(PresentVersion(newest.number, newest.hash))
    tree = bytes.fromhex(snapshot.tree) if snapshot else b""
    return Standing(0, repository, newest.number, newest.hash, tree, newest.time, listed)


def _write(
    top: TopTier, client: Client, repository: str, newest: VersionRow | None, snapshots: Snapshots, serial: int
) -> bytes:
    standing = _standing(repository, newest, snapshots.of_client(client.fingerprint))
    return write_standing(
        replace(standing, serial=serial),
        top.identity.signing,
        client=client.key,
        sealing=client.sealing,
        group=top.group,
        issued_s=int(time.time()),
    )
