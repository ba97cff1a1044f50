"""How long ago something was, whatever the clocks do meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Clock(NamedTuple):
    """What both clocks show at one moment, in seconds."""

    wall_s: float
    """Since 1970. May jump forward and back, and be wrong by years."""
    steady_s: float
    """Since anywhere; never goes back. May stand still while the machine sleeps."""


@dataclass(slots=True)
class Moment:
    """Something that happened at ``wall_s``; as long ago as the clock says that says longer.

    A wall clock that went back (or was far ahead when it happened) says "in the future"; what the steady
    clock has seen since then proves the least that has gone by. So nothing that is due after an interval
    waits for longer than that interval of an agent's life. The other way round, a machine that slept
    is believed what its wall clock says.
    """

    wall_s: float
    proven_s: float = 0.0
    """Seconds that the steady clock has seen since then."""
    seen_steady_s: float | None = None
    """When it last looked; None in a process that has not yet."""

    def advance(self, clock: Clock) -> None:
        """Look at the clocks; to be called every now and then."""
        if self.seen_steady_s is not None:
            self.proven_s += max(0.0, clock.steady_s - self.seen_steady_s)
        self.seen_steady_s = clock.steady_s

    def ago_s(self, clock: Clock) -> float:
        """Seconds since then; never negative."""
        self.advance(clock)
        return max(clock.wall_s - self.wall_s, self.proven_s)
