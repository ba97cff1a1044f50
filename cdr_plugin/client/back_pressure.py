"""When the inbox above is full: what waits, for what, and what may go all the same."""

from __future__ import annotations

import time
from functools import partial

from cdr_plugin.client.rows import SegmentRow
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.tier_keys import FormerKeyError, tier_signer
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import IntegrityError, NotFoundError, StorageFullError
from cdr_plugin.inbox_limit.gauge import Gauge
from cdr_plugin.parcel.limits import MAX_ROOM_BYTES
from cdr_plugin.parcel.naming import plain_room_name, room_name
from cdr_plugin.parcel.room import Room, read_room, read_unverified_room
from cdr_plugin.reporter import Reporter


class BackPressure:
    """Of one session of sending. ``reason``: why nothing more goes; empty while something may."""

    def __init__(self, client: ClientTier, reporter: Reporter) -> None:
        self._client = client
        self._reporter = reporter
        self._gauges: dict[int, Gauge | None] = {}
        self.reason = ""

    def holds_up(self, url: str, storage: Transport, row: SegmentRow) -> bool:
        """Must this segment wait for room? Then ``reason`` says so from now on."""
        gauge = self._gauge(url, storage)
        if gauge is None or gauge.has_room(row.size):
            return False
        if gauge.has_room(row.size, is_answer=True) and self._client.state.is_answer(row):
            return False
        self.reason = gauge.reason
        return True

    def put(self, url: str, storage: Transport, row: SegmentRow) -> None:
        """It has been put."""
        gauge = self._gauge(url, storage)
        if gauge is not None:
            gauge.put(row.size)

    def storage_is_full(self, error: StorageFullError) -> None:
        self.reason = f"waiting for room in the storage above: {error}"

    def _gauge(self, url: str, storage: Transport) -> Gauge | None:
        if id(storage) not in self._gauges:
            room = self._room(url, storage)
            self._gauges[id(storage)] = None if room is None else Gauge(storage, room)
        return self._gauges[id(storage)]

    def _room(self, url: str, storage: Transport) -> Room | None:
        """What the tier says whose inbox this is. Where one has signed for it before, only such a note counts."""
        now_s, state, fact = time.time(), self._client.state, f"room_serial {url}"
        group, lowest = self._client.ticket.group, int(state.get(fact) or b"0")
        read = partial(read_room, tier=tier_signer(self._client), group=group, now_s=now_s, lowest_serial=lowest)
        name = room_name(group)
        try:
            room = read(storage.get(name, 0, MAX_ROOM_BYTES + 1))
            if room.serial > lowest:
                state.put({fact: str(room.serial)})
            return room
        except (NotFoundError, FormerKeyError):
            pass
        except IntegrityError as error:
            self._reporter.error(name, "send", f"{error}; ignored")
        return None if lowest else _plain_room(storage, now_s)


def _plain_room(storage: Transport, now_s: float) -> Room | None:
    try:
        return read_unverified_room(storage.get(plain_room_name(), 0, MAX_ROOM_BYTES + 1), now_s)
    except (NotFoundError, IntegrityError):
        return None
