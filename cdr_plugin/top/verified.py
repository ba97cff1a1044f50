"""Telling each client which of its versions the checks have verified."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from functools import partial

from cdr_plugin.identity.register import Client, ClientState, SenderKind
from cdr_plugin.parcel.limits import MAX_VERIFIED_VERSIONS
from cdr_plugin.parcel.naming import Answer
from cdr_plugin.parcel.verified import Verified, write_verified
from cdr_plugin.parcel.verified_list import VerifiedVersion, pack_verified
from cdr_plugin.top.care_state import CareState
from cdr_plugin.top.inbox import Inbox, Inboxes
from cdr_plugin.top.saying import Saying
from cdr_plugin.top.tier import TopTier


def publish_verified(
    top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox], present_clients: Container[bytes]
) -> None:
    """Write what is verified of every approved client into its inboxes, unless it says what was said last. Nothing
    where no check has been done yet. Under ``receive.lock``, so that the newest word is the last."""
    if not CareState.exists(top.state_folder):
        return
    saying = Saying(top, Answer.VERIFIED, inboxes, listings, present_clients)
    with CareState(top.state_folder) as care:
        for client in top.register.clients(top.group):
            if client.state is ClientState.APPROVED and client.kind is SenderKind.CLIENT:
                versions = care.verified_of(client.fingerprint)[-MAX_VERIFIED_VERSIONS:]
                saying.say(client, pack_verified(versions), partial(_write, top, client, versions))


def _write(top: TopTier, client: Client, versions: Sequence[VerifiedVersion], serial: int) -> bytes:
    return write_verified(
        Verified(serial, versions),
        top.identity.signing,
        client=client.key,
        sealing=client.sealing,
        group=top.group,
        issued_s=int(time.time()),
    )
