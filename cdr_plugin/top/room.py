"""The notes below an inbox, by a tier that has keys and a register: its layout, and its limit, signed."""

from __future__ import annotations

import time

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import RemoteError
from cdr_plugin.identity.register import ClientState, Register
from cdr_plugin.inbox_limit.contents import is_head, segments_in
from cdr_plugin.inbox_limit.posting import Filling
from cdr_plugin.parcel.layout import Layout, client_folder, post_layout
from cdr_plugin.parcel.naming import CLIENTS, folder_id, room_name
from cdr_plugin.parcel.room import write_room
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.tier import TopTier

_POSTED = "notes_posted"
"""Fact of the tier's state: that there are notes of it, which have to be kept up."""


def post_notes(top: TopTier, limit: int | None, layout: Layout, reporter: Reporter) -> None:
    """Say in each inbox how clients' folders lie there, how much it may hold and how much it holds, or take back
    what was said. Whoever cannot be reached is told by the next run."""
    nothing = limit is None and layout is Layout.PER_CLIENT
    if nothing and not top.state.get(_POSTED):
        return
    top.state.put({_POSTED: "yes"})
    failed = False
    for url in dict.fromkeys(top.inboxes):
        try:
            with top.plugins.transport(url) as inbox:
                post_layout(inbox, layout)
                _post_room(top, url, inbox, limit, reporter)
        except RemoteError as error:
            reporter.note(f"inbox {url}: {error}; the notes in it are as old as before")
            failed = True
    if nothing and not failed:
        top.state.put({_POSTED: ""})


def _post_room(top: TopTier, url: str, inbox: Transport, limit: int | None, reporter: Reporter) -> None:
    if limit is None:
        inbox.delete(room_name(top.group))
        return
    found = _measured(top, inbox)
    room = found.room(limit, time.time(), top.state.next_serial("room"))
    inbox.put(room_name(top.group), write_room(room, top.identity.signing, group=top.group), overwrite=True)
    if room.ignored:
        reporter.note(
            f"inbox {url}: {found.unknown} bytes are of unknown senders, see 'cdr clients'; "
            f"{room.ignored} of them do not count against its limit"
        )


def _measured(top: TopTier, inbox: Transport) -> Filling:
    """What lies in an inbox, of those whose segments are taken and of others; several groups may share it."""
    known_ones = known_folders(top.register)
    total = sum(size for _, size in segments_in(inbox))
    seen = (info for info in top.view(inbox).list(CLIENTS) if not is_head(info.name))
    known = sum(info.size for info in seen if client_folder(info.name) in known_ones)
    return Filling(known, max(total - known, 0))


def known_folders(register: Register) -> set[str]:
    """The folders of those whose segments are taken, in whatever group."""
    clients = (client for client in register.clients() if client.state is ClientState.APPROVED)
    return {folder_id(client.key, client.group) for client in clients}
