"""The signed note about the limit of an inbox, by a tier that has keys and a register."""

from __future__ import annotations

import time

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import RemoteError
from cdr_plugin.identity.register import ClientState, Register
from cdr_plugin.inbox_limit.posting import Filling, measure
from cdr_plugin.parcel.naming import folder_id, room_name
from cdr_plugin.parcel.room import write_room
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.tier import TopTier

_POSTED = "room_posted"
"""Fact of the tier's state: the limit that its notes tell, or nothing."""


def post_room(top: TopTier, limit: int | None, reporter: Reporter) -> None:
    """Say in each inbox how much it may hold and how much it holds, or take back what was said. Whoever cannot
    be reached is told by the next run."""
    if limit is None and not top.state.get(_POSTED):
        return
    failed = False
    for url in dict.fromkeys(top.inboxes):
        try:
            with top.plugins.transport(url) as inbox:
                _post(top, url, inbox, limit, reporter)
        except RemoteError as error:
            reporter.note(f"inbox {url}: {error}; its note about the room in it is as old as before")
            failed = True
    if not failed:
        top.state.put({_POSTED: "" if limit is None else str(limit)})


def _post(top: TopTier, url: str, inbox: Transport, limit: int | None, reporter: Reporter) -> None:
    if limit is None:
        inbox.delete(room_name(top.group))
        return
    top.state.put({_POSTED: str(limit)})
    found = measure_inbox(inbox, top.register)
    room = found.room(limit, time.time(), top.state.next_serial("room"))
    inbox.put(room_name(top.group), write_room(room, top.identity.signing, group=top.group), overwrite=True)
    if room.ignored:
        reporter.note(
            f"inbox {url}: {found.unknown} bytes are of unknown senders, who see 'cdr clients'; "
            f"{room.ignored} of them do not count against its limit"
        )


def measure_inbox(inbox: Transport, register: Register) -> Filling:
    """What lies in an inbox, of those whose segments are taken and of others; several groups may share it."""
    return measure(inbox, known_folders(register).__contains__)


def known_folders(register: Register) -> set[str]:
    """The folders of those whose segments are taken, in whatever group."""
    clients = (client for client in register.clients() if client.state is ClientState.APPROVED)
    return {folder_id(client.key, client.group) for client in clients}
