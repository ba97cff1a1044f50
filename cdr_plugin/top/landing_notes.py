"""What is noted of the landing, in ``landing/state.db``: in which order parcels landed, and which versions are in
them. Hints: without the first, deltas may come before their bases and are asked for whole; without the second,
versions are told later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from cdr_plugin.tier_state import TierState
from cdr_plugin.top.state import VersionRow, VersionState

MAX_VERSIONS = 1000
"""Of one client that have landed and are not known otherwise; more are told when they are reduced."""

_SCHEMA = """
CREATE TABLE versions (
    client BLOB NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, previous BLOB NOT NULL, time TEXT NOT NULL,
    PRIMARY KEY (client, number, hash)) WITHOUT ROWID;
CREATE TABLE parcels (
    ord INTEGER PRIMARY KEY AUTOINCREMENT, sender BLOB NOT NULL, id BLOB NOT NULL, UNIQUE (sender, id))
"""


class LandingNotes(TierState):
    """The notes of one group's landing. To be closed."""

    def __init__(self, landing: Path) -> None:
        super().__init__(landing, _SCHEMA, 1)

    # --- parcels ---

    def note_order(self, sender: bytes, parcels: Sequence[bytes]) -> None:
        """These landed now, in this order; one that is noted before keeps its place."""
        with self._db.transaction() as db:
            rows = [(sender, parcel) for parcel in parcels]
            db.executemany("INSERT OR IGNORE INTO parcels (sender, id) VALUES (?, ?)", rows)

    def order(self, sender: bytes) -> list[bytes]:
        """Parcels in the order in which they landed."""
        rows = self._db.connection.execute("SELECT id FROM parcels WHERE sender=? ORDER BY ord", (sender,))
        return [id_ for (id_,) in rows]

    def drop_parcels(self, sender: bytes, parcels: Iterable[bytes]) -> None:
        """Nothing of them is in the landing any more."""
        with self._db.transaction() as db:
            rows = [(sender, parcel) for parcel in parcels]
            db.executemany("DELETE FROM parcels WHERE sender=? AND id=?", rows)

    # --- versions ---

    def add(self, client: bytes, versions: Iterable[VersionRow]) -> None:
        """Their records have landed."""
        with self._db.transaction() as db:
            (left,) = db.execute("SELECT ? - COUNT(*) FROM versions WHERE client=?", (MAX_VERSIONS, client)).fetchone()
            rows = [(client, row.number, row.hash, row.previous, row.time) for row in versions]
            db.executemany("INSERT OR IGNORE INTO versions VALUES (?,?,?,?,?)", rows[: max(left, 0)])

    def versions(self, client: bytes) -> list[VersionRow]:
        """To be told as *stored*."""
        rows = self._db.connection.execute(
            "SELECT number, hash, previous, time FROM versions WHERE client=?", (client,)
        )
        return [VersionRow(n, b"", b"", hash_, prev, VersionState.PENDING, time) for n, hash_, prev, time in rows]

    def drop(self, client: bytes, versions: Iterable[VersionRow]) -> None:
        """Their records have been taken in."""
        with self._db.transaction() as db:
            keys = [(client, row.number, row.hash) for row in versions]
            db.executemany("DELETE FROM versions WHERE client=? AND number=? AND hash=?", keys)


def landed_order(landing: Path, sender: bytes) -> list[bytes]:
    """Parcels of a sender in the order in which they landed; none where nothing ever has."""
    if not (landing / "state.db").exists():
        return []
    with closing(LandingNotes(landing)) as notes:
        return notes.order(sender)
