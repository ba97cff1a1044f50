"""Telling each client which of its versions the checks have verified."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from functools import partial
from hashlib import sha256

from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.parcel.limits import MAX_VERIFIED_VERSIONS
from cdr_plugin.parcel.naming import Answer
from cdr_plugin.parcel.verified import Verified, write_verified
from cdr_plugin.parcel.verified_list import VerifiedVersion, pack_verified
from cdr_plugin.top.care_state import CareState
from cdr_plugin.top.inbox import Inbox, Inboxes
from cdr_plugin.top.saying import Saying
from cdr_plugin.top.tier import TopTier

_TOLD = "told-verified"
"""The fact of what everybody has been told, and who that is: no need to look at them one by one."""


def publish_verified(
    top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox], present_clients: Container[bytes]
) -> None:
    """Write what is verified of every approved client into its inboxes, unless it says what was said last. Nothing
    where no check has been done yet. Under ``receive.lock``, so that the newest word is the last."""
    if not CareState.exists(top.state_folder):
        return
    saying = Saying(top, Answer.VERIFIED, inboxes, listings, present_clients)
    with CareState(top.state_folder) as care:
        clients = [client for client in top.register.makers(top.group) if client.state is ClientState.APPROVED]
        heard = (top.identity.signing.public.fingerprint, *(client.fingerprint for client in clients))
        edition = sha256(care.edition + b"".join(heard)).digest()
        is_told = top.state.get(_TOLD) == edition
        for client in clients:
            if not is_told or client.fingerprint in present_clients:
                versions = care.verified_of(client.fingerprint)[-MAX_VERIFIED_VERSIONS:]
                saying.say(client, pack_verified(versions), partial(_write, top, client, versions))
        if not is_told and not inboxes.failures:
            top.state.put({_TOLD: edition})


def _write(top: TopTier, client: Client, versions: Sequence[VerifiedVersion], serial: int) -> bytes:
    return write_verified(
        Verified(serial, versions),
        top.identity.signing,
        client=client.key,
        sealing=client.sealing,
        group=top.group,
        issued_s=int(time.time()),
    )
