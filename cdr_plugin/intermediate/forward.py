"""Putting what is spooled into the storage above, and bringing the answers down. Heads travel behind the segments
that they name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cdr_plugin.contracts import ObjectInfo, Transport, Verdict
from cdr_plugin.errors import IntegrityError, NotFoundError, RemoteError, StorageFullError
from cdr_plugin.inbox_limit.gauge import Gauge
from cdr_plugin.intermediate.objects import MAX_OBJECT_BYTES, Moved, in_order, put_if_new
from cdr_plugin.parcel.layout import put_objects
from cdr_plugin.parcel.limits import MAX_ROOM_BYTES
from cdr_plugin.parcel.naming import NOTES, HeadName, SegmentName
from cdr_plugin.parcel.room import Room, read_unverified_room
from cdr_plugin.reporter import Reporter


def send(
    spool: Transport,
    spool_folder: Path,
    above: Sequence[Transport],
    reporter: Reporter,
    may_go_on: Callable[[], Verdict],
) -> Moved:
    """Put what is spooled into the first storage above, and heads into each; segments leave the spool, heads stay
    for comparison. Where it ends before all has gone, heads wait, too: they name what is not there yet."""
    moved = Moved()
    queue = list(_queue(spool, reporter))
    gauge = _gauge(above[0])
    for waiting in queue:
        moved.waiting_for = _why_not(gauge, waiting, may_go_on)
        if moved.waiting_for:
            return moved
        try:
            there = _put(above[0], waiting.info, spool_folder, reporter)
        except StorageFullError as error:
            moved.waiting_for = f"waiting for room in the storage above: {error}"
            return moved
        if not there:
            continue
        spool.delete(waiting.info.name)
        moved.count(waiting.info)
        if gauge is not None:
            gauge.put(waiting.info.size)
        reporter.progress(segments_sent=moved.segments, bytes_sent=moved.bytes)
    _put_heads(spool, above, reporter)
    return moved


# --- the order in which things go ---


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An object of the spool. ``is_first``: of the parcel that its client's head names first: answers, if the client
    was asked for something."""

    info: ObjectInfo
    is_first: bool


def _queue(spool: Transport, reporter: Reporter) -> Iterator[_Waiting]:
    """What waits, in the order of the heads; the first parcel of each client before any other."""
    objects = list(in_order(put_objects(spool), reporter))
    heads = [(info.name, name.folder) for info, name in objects if isinstance(name, HeadName)]
    ranks = dict(_ranks(spool, heads))
    found = []
    for info, name in objects:
        if isinstance(name, SegmentName):
            rank = ranks.get(name.parcel_id, len(ranks))
            found.append((rank != 0, name.folder, rank, info.name, info))
        elif not isinstance(name, HeadName):
            found.append((False, name.folder, -1, info.name, info))  # a request to be known
    for _, _, rank, _, info in sorted(found, key=lambda row: row[:4]):
        yield _Waiting(info, rank <= 0)


def _ranks(spool: Transport, heads: Sequence[tuple[str, str]]) -> Iterator[tuple[bytes, int]]:
    """The place of each parcel in its client's head; ``heads``: names, and folders of the clients."""
    from cdr_plugin.parcel.head import carried_parcels  # not for 'cdr status': it needs the crypto library

    for name, folder in heads:
        data = spool.get(name, 0, MAX_OBJECT_BYTES)
        for rank, parcel in enumerate(carried_parcels(data, folder)):
            yield parcel.id, rank


# --- one object ---


def _why_not(gauge: Gauge | None, waiting: _Waiting, may_go_on: Callable[[], Verdict]) -> str:
    verdict = may_go_on()
    if not verdict.convenient:
        return verdict.reason
    if gauge is None or gauge.has_room(waiting.info.size, is_answer=waiting.is_first):
        return ""
    return gauge.reason


def _put(above: Transport, info: ObjectInfo, spool_folder: Path, reporter: Reporter) -> bool:
    """Whether it is there now. What a broken storage has torn is put over; where somebody else's object has the
    name, ours waits until the tier above has thrown that one out."""
    path = spool_folder / info.name
    try:
        above.put_file(info.name, path)
    except StorageFullError:
        raise
    except RemoteError as error:
        found = _found(above, info)
        if found is None:
            raise
        data = path.read_bytes()
        if not data.startswith(found):
            reporter.error(info.name, "send", f"{error}; it waits until that is gone")
            return False
        above.put(info.name, data, overwrite=True)
    return True


def _found(above: Transport, info: ObjectInfo) -> bytes | None:
    try:
        return above.get(info.name, 0, info.size + 1)
    except RemoteError:
        return None


def _put_heads(spool: Transport, above: Sequence[Transport], reporter: Reporter) -> None:
    for info, name in in_order(put_objects(spool), reporter):
        if isinstance(name, HeadName):
            data = spool.get(info.name, 0, MAX_OBJECT_BYTES)
            for storage in above:
                put_if_new(storage, info.name, data)


# --- room above ---


def _gauge(above: Transport) -> Gauge | None:
    """By the newest note: a tier without keys can verify none, and all that a forged one can do is to make it wait."""
    rooms = list(_rooms(above, time.time()))
    return Gauge(above, max(rooms, key=lambda room: room.time_s)) if rooms else None


def _rooms(above: Transport, now_s: float) -> Iterator[Room]:
    for info in above.list(NOTES):
        if info.name.endswith("/room"):
            try:
                yield read_unverified_room(above.get(info.name, 0, MAX_ROOM_BYTES + 1), now_s)
            except (NotFoundError, IntegrityError):
                continue

