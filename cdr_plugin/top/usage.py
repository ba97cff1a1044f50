"""What each client has delivered: the bytes that count against its quota, and whether a version brings unusually many.

A hint, kept beside the rows: a crash between the two miscounts what one checkpoint took, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from cdr_plugin.identity.register import Client
from cdr_plugin.tier_state import TierState

RECENT_VERSIONS = 10
"""Versions whose new data is remembered; with fewer than three of them nothing is unusual."""
UNUSUAL_TIMES = 5
UNUSUAL_FLOOR_BYTES = 64 * 1024 * 1024
"""New data of a version is unusual above so many times the median of the recent ones, and above this in any case: a
client that sends kilobytes a day may well send some megabytes."""


_FACT = "usage:"


class _Counts(msgspec.Struct):
    delivered: int = 0
    at_last_version: int = 0
    recent: list[int] = msgspec.field(default_factory=list)
    warning: str = ""
    counted_s: float = 0
    is_lost: bool = False


class Usage:
    """Of one client; durable after ``save``. ``delivered``: bytes of payloads as they came, each blob once, or what
    the repository still holds of them, where that was found to be less."""

    def __init__(self, state: TierState, client: Client) -> None:
        self._state = state
        self._fact = f"{_FACT}{client.fingerprint.hex()}"
        found = state.get(self._fact)
        self._counts = msgspec.json.decode(found, type=_Counts) if found else _Counts()
        self._saved = found

    @property
    def delivered(self) -> int:
        return self._counts.delivered

    @property
    def warning(self) -> str:
        """What was unusual about the newest version; empty when nothing was."""
        return self._counts.warning

    @property
    def counted_s(self) -> float:
        """When it was last looked up what the repository holds, in seconds since 1970."""
        return self._counts.counted_s

    def add(self, size: int) -> None:
        """A payload of so many bytes came, of a blob that the client had not delivered yet."""
        self._counts.delivered += size

    @property
    def is_lost(self) -> bool:
        """The state was lost, and with it what had been counted: only the repository knows."""
        return self._counts.is_lost

    def lose(self) -> None:
        self._counts.is_lost = True

    def recount(self, held: int, now_s: float) -> None:
        """The repository holds so much of it: the lower figure counts from now on, after a loss the higher one."""
        counts = self._counts
        counts.counted_s = now_s
        choose = max if counts.is_lost else min
        before, counts.delivered = counts.delivered, choose(counts.delivered, held)
        counts.at_last_version = max(counts.at_last_version + counts.delivered - before, 0)
        counts.is_lost = False

    def versions_committed(self, numbers: Sequence[int]) -> str:
        """What came since the version before belongs to these, in like parts. A warning for the operator, empty when
        it is as much as usual."""
        counts = self._counts
        if numbers:
            new = (counts.delivered - counts.at_last_version) // len(numbers)
            counts.at_last_version = counts.delivered
            counts.warning = _warning(numbers[-1], new, counts.recent)
            counts.recent = [*counts.recent, *[new] * len(numbers)][-RECENT_VERSIONS:]
        return counts.warning if numbers else ""

    def save(self) -> None:
        now = msgspec.json.encode(self._counts)
        if now != self._saved:
            self._state.put({self._fact: now})
            self._saved = now


def lost_usages(state: TierState) -> set[str]:
    """Clients (fingerprints, hex) of whom only the repository knows what they have."""
    found = state.facts(_FACT).items()
    return {client for client, counts in found if msgspec.json.decode(counts, type=_Counts).is_lost}


def _warning(number: int, new: int, recent: list[int]) -> str:
    if len(recent) < 3 or new <= max(UNUSUAL_TIMES * median(recent), UNUSUAL_FLOOR_BYTES):
        return ""
    return (
        f"version {number} brought {_mib(new)} MiB of new data, the versions before it {_mib(median(recent))} MiB: "
        "look whether its files were replaced or encrypted"
    )


def _mib(size: float) -> str:
    return f"{size / 1024 / 1024:.1f}"
