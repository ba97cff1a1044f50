"""What the spool holds: sealed bytes, or only the recipe of what was sent. See docs/design/transfer-queue.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cdr_plugin.client.rows import SegmentRow
from cdr_plugin.client.states import SEGMENT, SegmentEvent, SegmentState, VersionState
from cdr_plugin.client.wanted import COUNT_GENERATION
from cdr_plugin.database import Database

_RELEASED = SegmentState.RELEASED
_RESTING = SegmentState.SENT, SegmentState.TAKEN
_REPLACED_AT_ONCE = 64
"""Segments: looking at the 12 500 of a full spool of 100 GB takes 200 ms, and a segment is written in 40."""


class Holdings:
    """The part of the client's state that says which segments are in the spool as bytes."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def rows(self, where: str, *values: object) -> list[SegmentRow]:
        """Segments (``s``, of parcels ``p``) in the order in which they travel: answers before versions."""
        rows = self._db.connection.execute(
            "SELECT s.parcel, p.id, s.idx, s.size, s.sha256, s.state, s.held "
            f"FROM segments s JOIN parcels p ON p.ord=s.parcel WHERE {where} ORDER BY p.answers DESC, s.parcel, s.idx",
            values,
        )
        return [_segment_row(row) for row in rows]

    def size(self) -> int:
        """Sealed bytes in the spool."""
        row = self._db.connection.execute("SELECT COALESCE(SUM(size), 0) FROM segments WHERE held=1").fetchone()
        return int(row[0])

    def held(self) -> list[SegmentRow]:
        return self.rows("s.held=1")

    def held_keys(self) -> Iterator[tuple[int, int, bytes]]:
        """Parcel, index and packed keys of each segment that is in the spool."""
        sql = "SELECT parcel, idx, keys FROM segments WHERE held=1 ORDER BY parcel, idx"
        yield from self._db.connection.execute(sql)

    def replaceable_by_recipes(self) -> list[SegmentRow]:
        """Some held segments, if there are any, whose bytes are elsewhere as well: what the receiver has taken
        first, then what was sent, the oldest first."""
        sql = (
            "SELECT s.parcel, p.id, s.idx, s.size, s.sha256, s.state, s.held FROM segments s "
            "JOIN parcels p ON p.ord=s.parcel WHERE s.held=1 AND s.state=? ORDER BY s.parcel, s.idx LIMIT ?"
        )
        found: list[tuple[int, bytes, int, int, bytes, str, int]] = []
        for state in (SegmentState.TAKEN, SegmentState.SENT):
            found += self._db.connection.execute(sql, (state, _REPLACED_AT_ONCE - len(found)))
        return [_segment_row(row) for row in found]

    def resting(self) -> tuple[int, int]:
        """Segments, and their bytes, of which only a recipe is left here and that no commit covers yet."""
        row = self._db.connection.execute(
            "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM segments WHERE held=0 AND state IN (?, ?)", _RESTING
        ).fetchone()
        return int(row[0]), int(row[1])

    def needed_until(self, parcel: int) -> list[SegmentRow]:
        """Segments that were taken and that nothing needs once the version in ``parcel`` is committed."""
        since = (
            "SELECT MIN(s.parcel) FROM segments s JOIN parcels p ON p.ord=s.parcel "
            "WHERE p.answers=0 AND s.parcel>? AND s.state!=?"
        )
        (first,) = self._db.connection.execute(since, (parcel, SegmentState.RELEASED)).fetchone()
        answered = "p.answers=1" if first is None else f"(p.answers=1 AND s.parcel<{int(first)})"
        return self.rows(f"s.state=? AND (s.parcel<=? OR {answered})", SegmentState.TAKEN, parcel)

    def drop(self, rows: Iterable[SegmentRow]) -> None:
        """From now on recipes stand for them; their files may go."""
        with self._db.transaction() as db:
            db.executemany(
                "UPDATE segments SET held=0 WHERE parcel=? AND idx=? AND state!=?",
                [(row.parcel_ord, row.index, SegmentState.SPOOLED) for row in rows],
            )

    def return_all(self) -> int:
        """Segments that were sent, that nobody has answered and whose bytes are here go out again; how many."""
        with self._db.transaction() as db:
            done = db.execute(
                "UPDATE segments SET state=? WHERE state=? AND held=1", (SegmentState.SPOOLED, SegmentState.SENT)
            )
        return int(done.rowcount)

    # --- versions that wait ---

    def first_of(self, number: int) -> int | None:
        """The parcel of a version that waits and could be taken back; None when something of it, or behind
        it, has begun to travel. Answers do not depend on versions, so they do not count."""
        row = self._db.connection.execute(
            "SELECT parcel FROM versions WHERE number=? AND state=?", (number, VersionState.CAPTURED)
        ).fetchone()
        if row is None:
            return None
        begun = self._db.connection.execute(
            "SELECT 1 FROM segments s JOIN parcels p ON p.ord=s.parcel "
            "WHERE s.parcel>=? AND p.answers=0 AND s.state!=?",
            (row[0], SegmentState.SPOOLED),
        ).fetchone()
        return None if begun else int(row[0])

    def known_outside(self, parcel: int) -> Iterator[bytes]:
        """Keys, as ``ClientState.known`` gives them, that stay known when a parcel is cut off."""
        kept = "SELECT s.keys FROM segments s JOIN parcels p ON p.ord=s.parcel WHERE s.parcel<? OR p.answers=1"
        for (keys,) in self._db.connection.execute(kept, (parcel,)):
            yield keys

    def bytes_outside(self, parcel: int) -> int:
        """Held bytes that stay when a parcel is cut off."""
        return self.size() - sum(row.size for row in self._cut(parcel) if row.held)

    def cut_off(self, parcel: int, *, is_void: bool) -> list[SegmentRow]:
        """Take back a parcel and all that was made after it: versions, rows, and that their blobs are known.
        Nobody else has seen their numbers. ``is_void``: so are earlier catalogs. Returns the segments whose files
        may go; only with both locks."""
        gone = self._cut(parcel)
        with self._db.transaction() as db:
            if is_void:
                db.execute(COUNT_GENERATION)
            db.execute("DELETE FROM versions WHERE parcel>=?", (parcel,))
            own = "(SELECT ord FROM parcels WHERE ord>=? AND answers=0)"
            db.execute(f"DELETE FROM segments WHERE parcel IN {own}", (parcel,))
            db.execute("DELETE FROM parcels WHERE ord>=? AND answers=0", (parcel,))
        return gone

    def give_up(self, number: int) -> list[SegmentRow]:
        """Strike the segments of a version that may be known above, and that their blobs are known: catalogs that
        name them are void. Returns those whose files may go."""
        rows = self.rows("s.state!=? AND s.parcel=(SELECT parcel FROM versions WHERE number=?)", _RELEASED, number)
        with self._db.transaction() as db:
            db.executemany(
                "UPDATE segments SET keys=x'', held=0, state=? WHERE parcel=? AND idx=?",
                [(SEGMENT.next(row.state, SegmentEvent.LOSE), row.parcel_ord, row.index) for row in rows],
            )
            db.execute("UPDATE versions SET again=0 WHERE number=?", (number,))
            db.execute(COUNT_GENERATION)
        return rows

    def _cut(self, parcel: int) -> list[SegmentRow]:
        return self.rows("s.parcel>=? AND p.answers=0", parcel)


def _segment_row(row: tuple[int, bytes, int, int, bytes, str, int]) -> SegmentRow:
    parcel, id_, index, size, sha256, state, held = row
    return SegmentRow(parcel, id_, index, size, sha256, SegmentState(state), bool(held))
