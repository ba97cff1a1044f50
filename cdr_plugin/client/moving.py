"""Leaving a group: the client starts anew in another one, and nothing of what it remembers goes with it.

Known blobs, baseline and numbers belong to the group in which they were delivered; in another one they would be
claims to bytes that nobody there has.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import chain, count
from pathlib import Path

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import NotEnrolledError, UserError
from cdr_plugin.files import exclusive, storage_error, sync_folder


def put_state_aside(client: ClientTier, target: str) -> Path | None:
    """The state folder, under another name beside its own: where it is now; None when the client is in no group yet,
    as after a run that was cut off. UserError when ``target`` is the group that it is in already.

    One rename, durable on return. NotConvenientError while a backup, a sending or an agent is at work.
    """
    try:
        group, folder = client.enrolled_group, client.state_folder
    except NotEnrolledError:
        return None
    if group == target:
        raise UserError(
            f"client {client.name}: in group {group} already; 'cdr enroll' without --move takes a new ticket"
        )
    with ExitStack() as stack:
        for lock, work in (("agent", "agent of"), ("backup", "backup of"), ("send", "sending of")):
            stack.enter_context(exclusive(folder / f"{lock}.lock", f"{work} {client.name}"))
        client.state.close()
        aside = _free_name(folder, group)
        try:
            folder.rename(aside)
            sync_folder(folder.parent)
        except OSError as error:
            raise storage_error(aside, error) from error
    for name in ("state", "ticket"):
        client.__dict__.pop(name, None)
    return aside


def _free_name(folder: Path, group: str) -> Path:
    first = folder.with_name(f"{folder.name}.left-{group}")
    others = (first.with_name(f"{first.name}-{number}") for number in count(2))
    return next(path for path in chain((first,), others) if not path.exists())
