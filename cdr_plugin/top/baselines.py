"""Versions that a client may still build on, which forget leaves alone whatever the policy says.

A client makes its next version from what it knew when it made it: with versions on the way and receipts unread
that may be the one before its newest here. Until a later parcel names a newer one, or the client has been silent
for ``store.pin_for``, both are kept; behind a fork, those of both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cdr_plugin.top.state import VersionRow, VersionState


def baselines(versions: Sequence[VersionRow]) -> set[tuple[int, bytes]]:
    """Number and record hash of the committed versions that the next parcel may refer to; ``versions`` are all
    that the tier knows of one client."""
    lines = _Lines(versions)
    found: set[tuple[int, bytes]] = set()
    for row in lines.ends():
        newest = lines.committed_up_to(row)
        before = lines.committed_before(newest) if newest else None
        found |= {(kept.number, kept.hash) for kept in (newest, before) if kept is not None}
    for row in versions:
        if row.state is VersionState.PENDING:
            kept = lines.committed_before(row)
            found |= {(kept.number, kept.hash)} if kept else set()
    return found


class _Lines:
    """Which version follows which: by the hash of the record before, or by number where that is not known."""

    def __init__(self, versions: Iterable[VersionRow]) -> None:
        self._rows = [row for row in versions if row.state is not VersionState.REJECTED]
        self._by_hash = {row.hash: row for row in self._rows}
        self._by_number: dict[int, VersionRow] = {}
        for row in sorted(self._rows, key=lambda row: row.rank):
            self._by_number[row.number] = row

    def _before(self, row: VersionRow) -> VersionRow | None:
        return self._by_hash.get(row.previous) if row.previous else self._by_number.get(row.number - 1)

    def ends(self) -> Iterator[VersionRow]:
        """Versions that none follows."""
        followed = {before.hash for row in self._rows if (before := self._before(row)) is not None}
        return (row for row in self._rows if row.hash not in followed)

    def committed_up_to(self, row: VersionRow | None) -> VersionRow | None:
        """``row`` if it is committed, else the nearest one before it that is."""
        while row is not None and row.state is not VersionState.COMMITTED:
            row = self._before(row)
        return row

    def committed_before(self, row: VersionRow) -> VersionRow | None:
        return self.committed_up_to(self._before(row))
