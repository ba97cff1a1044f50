"""A look into the quarantine, and a hand on it: an object goes back into its client's inbox for another try, as
after an upgrade or a new plugin, or is deleted.

The file tells parcel and index, the state whose it is and why it was rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cdr_plugin.errors import NotFoundError, RemoteError, UserError
from cdr_plugin.files import storage_error
from cdr_plugin.identity.register import Client
from cdr_plugin.parcel.naming import folder_id, segment_name
from cdr_plugin.top.tier import TopTier

_NAME = re.compile(r"(?P<parcel>[0-9a-f]{32})-(?P<index>[0-9a-f]{8})", re.ASCII).fullmatch
SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An object in quarantine; ``client`` is None when the state does not know whose it is (any more)."""

    path: Path
    parcel_id: bytes
    index: int
    size: int
    time_s: float
    client: Client | None
    reason: str

    @property
    def id(self) -> str:
        return self.path.name


def quarantined(top: TopTier) -> list[Quarantined]:
    """What is there, oldest first; files of other names are nobody's."""
    clients = {client.fingerprint: client for client in top.register.clients(top.group)}
    return sorted(_look(top, clients), key=lambda found: (found.time_s, found.id))


def _look(top: TopTier, clients: dict[bytes, Client]) -> Iterator[Quarantined]:
    folder = top.state_folder / "quarantine"
    try:
        paths = list(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise storage_error(folder, error) from error
    for path in paths:
        match = _NAME(path.name)
        if match is None:
            continue
        parcel_id, index = bytes.fromhex(match["parcel"]), int(match["index"], 16)
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # made room for a newer one
        owner, reason = _owner(top, path, parcel_id, index)
        client = clients.get(owner) if owner is not None else None
        yield Quarantined(path, parcel_id, index, status.st_size, status.st_mtime, client, reason)


def _owner(top: TopTier, path: Path, parcel_id: bytes, index: int) -> tuple[bytes | None, str]:
    """Parcel IDs are public: of several clients whose object of this name was rejected, the hash tells."""
    rows = top.state.rejections(parcel_id, index)
    if len(rows) > 1:
        digest = sha256(path.read_bytes()).digest()
        rows = [row for row in rows if row.object == digest]
    return (rows[0].client, rows[0].reason) if len(rows) == 1 else (None, "")


def choose(found: Sequence[Quarantined], texts: Sequence[str]) -> list[Quarantined]:
    """Those whose ID, or the start of it, is among ``texts``; UserError for one that means none, or several."""
    chosen: dict[str, Quarantined] = {}
    for text in texts:
        fitting = [one for one in found if one.id.startswith(text.lower())]
        if len(fitting) != 1 or len(text) < SHORTEST_PREFIX:
            problem = "nothing" if not fitting else "several" if len(fitting) > 1 else "too short an ID"
            raise UserError(f"{text!r}: {problem} in quarantine; see 'cdr quarantine list'")
        chosen[fitting[0].id] = fitting[0]
    return list(chosen.values())


def release(top: TopTier, one: Quarantined) -> None:
    """Put it back into its client's folder, in the first inbox that answers, and only then take it out of the
    quarantine. UserError when nobody knows whose it is, or when another object has its place by now."""
    if one.client is None:
        raise UserError(f"{one.id}: the state does not know whose it is; remove it with --delete")
    name = segment_name(folder_id(one.client.key, top.group), one.parcel_id, one.index)
    try:
        data = one.path.read_bytes()
    except OSError as error:
        raise storage_error(one.path, error) from error
    _put(top, name, data)
    drop(one)


def _put(top: TopTier, name: str, data: bytes) -> None:
    failures: list[RemoteError] = []
    for url in top.inboxes:
        try:
            with top.plugins.transport(url) as inbox:
                try:
                    there = inbox.get(name, 0, len(data) + 1)
                except NotFoundError:
                    inbox.put(name, data)
                    return
        except RemoteError as error:
            failures.append(error)
            continue
        if there != data:
            raise UserError(f"{name}: its client has sent it again already; run 'cdr receive', or delete this one")
        return  # released before, by a run that was cut short
    raise failures[0]


def drop(one: Quarantined) -> None:
    """Delete it; no error when it is gone."""
    try:
        one.path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(one.path, error) from error
