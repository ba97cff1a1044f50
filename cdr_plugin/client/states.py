"""The states of a segment and of a version at the client; diagrams in docs/design/client-state.md."""

from __future__ import annotations

from enum import StrEnum

from cdr_plugin.state_machine import StateMachine


class SegmentState(StrEnum):
    SPOOLED = "spooled"
    SENT = "sent"
    TAKEN = "taken"
    RELEASED = "released"


class SegmentEvent(StrEnum):
    SEND = "send"
    TAKE = "take"
    RETURN = "return"  # rejected, missed, or lost by the other side
    RELEASE = "release"
    LOSE = "lose"  # its object will never be taken; what it held travels anew


SEGMENT = StateMachine(
    "segment",
    {
        (SegmentState.SPOOLED, SegmentEvent.SEND): SegmentState.SENT,
        # A receipt can overtake our own note that the put succeeded.
        (SegmentState.SPOOLED, SegmentEvent.TAKE): SegmentState.TAKEN,
        (SegmentState.SPOOLED, SegmentEvent.RETURN): SegmentState.SPOOLED,
        (SegmentState.SENT, SegmentEvent.TAKE): SegmentState.TAKEN,
        (SegmentState.SENT, SegmentEvent.RETURN): SegmentState.SPOOLED,
        (SegmentState.TAKEN, SegmentEvent.TAKE): SegmentState.TAKEN,
        (SegmentState.TAKEN, SegmentEvent.RETURN): SegmentState.SPOOLED,
        (SegmentState.TAKEN, SegmentEvent.RELEASE): SegmentState.RELEASED,
        (SegmentState.RELEASED, SegmentEvent.TAKE): SegmentState.RELEASED,
        (SegmentState.SPOOLED, SegmentEvent.LOSE): SegmentState.RELEASED,
        (SegmentState.SENT, SegmentEvent.LOSE): SegmentState.RELEASED,
        (SegmentState.TAKEN, SegmentEvent.LOSE): SegmentState.RELEASED,
    },
)


class VersionState(StrEnum):
    CAPTURED = "captured"
    IN_TRANSIT = "in transit"
    STORED = "stored"
    COMMITTED = "committed"
    INCOMPLETE = "incomplete"
    REJECTED = "rejected"
