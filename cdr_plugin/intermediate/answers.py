"""Bringing receipts and the like down into every inbox.

They are sealed, so nobody here can tell which of two is the newer. Of several storages above that hold one, the
storage in which it has changed last says how it reads below; what was seen in each is remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import NotFoundError
from cdr_plugin.intermediate.objects import MAX_OBJECT_BYTES, in_order, put_if_new
from cdr_plugin.parcel.limits import MAX_STATUS_BYTES
from cdr_plugin.parcel.naming import ANSWERS, NOTES, ObjectName, is_status_name
from cdr_plugin.reporter import Reporter
from cdr_plugin.tier_state import TierState


def bring_answers(
    above: Mapping[str, Transport],
    inboxes: Sequence[Transport],
    state: TierState | None,
    reporter: Reporter,
    is_wanted: Callable[[ObjectName], bool] = lambda _name: True,
) -> int:
    """How many were new below. ``above``: storages by URL; ``state`` where there may be several, to remember."""
    copied = 0
    for name, holders in _held(above, is_wanted, reporter).items():
        data = _latest(name, holders, state)
        if data is not None:
            copied += sum(put_if_new(inbox, name, data) for inbox in inboxes)
    return copied


def bring_statuses(
    above: Mapping[str, Transport], inboxes: Sequence[Transport], state: TierState | None
) -> None:
    """What the tiers above say of themselves, for senders below who know their keys; what they say no more goes. It
    is not ours to judge: who forges one is not believed, and an old one runs out by itself."""
    found: dict[str, dict[str, Transport]] = {}
    for url, storage in above.items():
        for name in _statuses(storage):
            found.setdefault(name, {})[url] = storage
    for inbox in inboxes:
        for name in _statuses(inbox) - found.keys():
            inbox.delete(name)
    for name, holders in found.items():
        data = _latest(name, holders, state)
        if data is not None:
            for inbox in inboxes:
                put_if_new(inbox, name, data)


def _statuses(storage: Transport) -> set[str]:
    notes = storage.list(NOTES)
    return {info.name for info in notes if is_status_name(info.name) and info.size <= MAX_STATUS_BYTES}


def _held(
    above: Mapping[str, Transport], is_wanted: Callable[[ObjectName], bool], reporter: Reporter
) -> dict[str, dict[str, Transport]]:
    """Names of answers, and the storages that hold each."""
    found: dict[str, dict[str, Transport]] = {}
    for url, storage in above.items():
        for info, name in in_order(storage.list(ANSWERS), reporter):
            if is_wanted(name):
                found.setdefault(info.name, {})[url] = storage
    return found


def _latest(name: str, holders: Mapping[str, Transport], state: TierState | None) -> bytes | None:
    read = {url: data for url, storage in holders.items() if (data := _read(storage, name)) is not None}
    if state is None or not read:
        return next(iter(read.values()), None)
    seen = {url: sha256(data).digest() for url, data in read.items()}
    changed = [url for url in seen if state.get(f"{name} {url}") != seen[url]]
    if changed:
        state.put({**{f"{name} {url}": seen[url] for url in changed}, name: changed[-1]})
    newest = (state.get(name) or b"").decode()
    return read.get(newest) or next(iter(read.values()))


def _read(storage: Transport, name: str) -> bytes | None:
    try:
        return storage.get(name, 0, MAX_OBJECT_BYTES)
    except NotFoundError:
        return None
