"""How much more a sender may put into a storage."""

from __future__ import annotations

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import RemoteError
from cdr_plugin.inbox_limit.contents import segments_in
from cdr_plugin.parcel.room import Room

RESERVE_PART = 20
"""A twentieth of the limit is kept for answers to *missing*, or a full inbox could wait for itself."""
_LOOK_EVERY = 64
"""Puts after which the storage is listed again, since others put there too: each sender is wrong by 0.5 GiB at most."""


class Gauge:
    """Of one storage, for one run. What lies there is measured, since the note is as old as the last visit of
    the tier that takes it; where it cannot be listed, what the note says and what we put counts."""

    def __init__(self, storage: Transport, room: Room) -> None:
        self._storage = storage
        self._room = room
        self._put = 0
        self._used = self._measured()
        self._until_look = _LOOK_EVERY

    def _measured(self) -> int:
        try:
            return max(sum(size for _, size in segments_in(self._storage)) - self._room.ignored, 0)
        except RemoteError:
            return self._room.used + self._put

    def has_room(self, size: int, *, is_answer: bool = False) -> bool:
        """Whether ``size`` bytes more may be put now. What answers *missing* may use the reserve. A segment larger
        than the limit fits into an empty inbox."""
        if not self._until_look:
            self._look()
        if not self._fits(size, is_answer=is_answer):
            self._look()
        return self._fits(size, is_answer=is_answer)

    def _look(self) -> None:
        self._used, self._until_look = self._measured(), _LOOK_EVERY

    def _fits(self, size: int, *, is_answer: bool) -> bool:
        if is_answer:
            return self._used < self._room.limit
        reserve = self._room.limit // RESERVE_PART
        return not self._used or self._used + size <= self._room.limit - reserve

    def put(self, size: int) -> None:
        """We have put so much."""
        self._put += size
        self._used += size
        self._until_look -= 1

    @property
    def reason(self) -> str:
        """Why nothing more goes there."""
        return f"waiting for room in the inbox ({_mib(self._used)} of {_mib(self._room.limit)} MiB are used)"


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.3g}" if size < 1024**3 else f"{size / 1024 / 1024:.0f}"
