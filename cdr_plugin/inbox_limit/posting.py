"""The receiver's side: measuring an inbox and leaving the note."""

from __future__ import annotations

from dataclasses import dataclass

from cdr_plugin.contracts import Transport
from cdr_plugin.inbox_limit.contents import segments_in
from cdr_plugin.parcel.room import Room

UNKNOWN_PART = 20
"""Of the limit a twentieth counts for all senders together whom nobody knows; the rest of theirs stops nobody."""


@dataclass(frozen=True, slots=True)
class Filling:
    """Bytes in an inbox: of senders who are known, and of others."""

    known: int
    unknown: int

    def room(self, limit: int, time_s: float, serial: int = 0) -> Room:
        """What the note says."""
        counted = min(self.unknown, limit // UNKNOWN_PART)
        return Room(limit, self.known + counted, self.unknown - counted, int(time_s), serial)


def measure(inbox: Transport) -> Filling:
    """For a tier that knows nobody, and takes whatever comes."""
    return Filling(sum(size for _, size in segments_in(inbox)), 0)
