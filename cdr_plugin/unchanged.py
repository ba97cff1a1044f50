"""Objects of a storage that need not be read again, since a listing shows them as they were when they were read.

What is replaced in place has the same name for ever: a tier that speaks for a thousand clients would read a thousand
receipts to find the one that is new. A listing is a hint: where it does not tell what was replaced, each object is read
each time, and every ``REREAD_S`` all of them are, since a clock with coarse ticks may hide a change.
"""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.contracts import ObjectInfo
from cdr_plugin.tier_state import TierState

REREAD_S = 3600.0


class Unchanged:
    """Objects of one ``kind``, by names within it; for one run. ``now_s``: seconds since 1970."""

    def __init__(self, state: TierState, kind: str, now_s: float) -> None:
        self._state = state
        self._kind = kind
        self._all_read = f"all-read:{kind}"
        last_s = float(state.get(self._all_read) or b"0")
        self.rereads = not last_s <= now_s < last_s + REREAD_S
        """All is to be read in this run, also what no listing shows."""
        self._known = {} if self.rereads else state.facts(f"looks:{kind}:")
        self._fresh: dict[str, bytes | str] = {self._all_read: str(now_s)} if self.rereads else {}

    def __contains__(self, named: tuple[str, str]) -> bool:
        """Has what looks like this under this name been read?"""
        name, look = named
        return bool(look) and self._known.get(name) == look.encode()

    def read(self, name: str, look: str) -> None:
        """It has, and what it says is taken in. ``look``: of the listing before."""
        if look:
            self._fresh[f"looks:{self._kind}:{name}"] = look

    def save(self) -> None:
        """Remember it for the next run."""
        if self._fresh:
            self._state.put(self._fresh)


def look_of(infos: Iterable[ObjectInfo | None]) -> str:
    """How an object looks in listings, of several storages: in each there, None where it is not. Empty where one of
    them does not say when it was replaced."""
    looks = ["-" if info is None else info.stamp and f"{info.size} {info.stamp}" for info in infos]
    return "; ".join(looks) if all(looks) else ""
