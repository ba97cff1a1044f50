"""Bringing receipts and the like down into every inbox.

They are sealed, so nobody here can tell which of two is the newer. Of several storages above that hold one, the
storage in which it has changed last says how it reads below; what was seen in each is remembered. What looks, above
and below, as it did when it was the same there and there is not read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from cdr_plugin.contracts import ObjectInfo, Transport
from cdr_plugin.errors import NotFoundError
from cdr_plugin.intermediate.objects import MAX_OBJECT_BYTES, in_order, put_if_new
from cdr_plugin.parcel.limits import MAX_STATUS_BYTES
from cdr_plugin.parcel.naming import ANSWERS, NOTES, ObjectName, is_status_name
from cdr_plugin.reporter import Reporter
from cdr_plugin.tier_state import TierState
from cdr_plugin.unchanged import Unchanged, look_of


def bring_answers(
    above: Mapping[str, Transport],
    inboxes: Sequence[Transport],
    state: TierState,
    reporter: Reporter,
    is_wanted: Callable[[ObjectName], bool] = lambda _name: True,
) -> int:
    """How many were new below. ``above``: storages by URL; ``state``: where it is remembered what was seen."""
    copied = 0
    unchanged = Unchanged(state, f"answers {' '.join(above)}", time.time())
    below = [{info.name: info for info in inbox.list(ANSWERS)} for inbox in inboxes]
    for name, holders in _held(above, is_wanted, reporter).items():
        look = look_of([*(holders.get(url) for url in above), *(listed.get(name) for listed in below)])
        if (name, look) in unchanged:
            continue
        data = _latest(name, {url: above[url] for url in holders}, state)
        if data is not None:
            new = sum(put_if_new(inbox, name, data) for inbox in inboxes)
            copied += new
            if not new:  # else the next listing says how it looks now
                unchanged.read(name, look)
    unchanged.save()
    return copied


def bring_statuses(
    above: Mapping[str, Transport], inboxes: Sequence[Transport], state: TierState, *, is_all: bool
) -> None:
    """What the tiers above say of themselves, for senders below who know their keys; what they say no more goes, if
    these are all storages that there are above. It is not ours to judge: who forges one is not believed, and an old
    one runs out by itself."""
    found: dict[str, dict[str, Transport]] = {}
    for url, storage in above.items():
        for name in _statuses(storage):
            found.setdefault(name, {})[url] = storage
    for inbox in inboxes:
        for name in _statuses(inbox) - found.keys() if is_all else ():
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
) -> dict[str, dict[str, ObjectInfo]]:
    """Names of answers, and what the storages that hold each say of it."""
    found: dict[str, dict[str, ObjectInfo]] = {}
    for url, storage in above.items():
        for info, name in in_order(storage.list(ANSWERS), reporter):
            if is_wanted(name):
                found.setdefault(info.name, {})[url] = info
    return found


def _latest(name: str, holders: Mapping[str, Transport], state: TierState) -> bytes | None:
    read = {url: data for url, storage in holders.items() if (data := _read(storage, name)) is not None}
    if not read:
        return None
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
