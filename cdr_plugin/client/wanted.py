"""Blobs that the tiers above asked for and that are not in the queue yet.

A blob is *known*, *wanted* or unknown, and a transaction moves it. One that nobody has any more is *lost*:
it stays noted, so that a receipt which goes on asking for it is not taken for news.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from sqlite3 import Connection

from cdr_plugin.client.rows import SegmentRow, cut_keys
from cdr_plugin.client.states import SegmentState
from cdr_plugin.database import Database

COUNT_GENERATION = (
    "INSERT INTO meta VALUES ('generation', '1') ON CONFLICT(key) DO UPDATE SET value=CAST(value AS INT)+1"
)
"""Catalogs made before name blobs that are not known any more."""

_NOWHERE = 0
"""No parcel: nobody knows in which one the blob was."""


@dataclass(frozen=True, slots=True)
class WantedBlob:
    """``key``: type byte and ID. The segment, by parcel and index, that listed it, or parcel 0."""

    key: bytes
    parcel: int
    index: int


class WantedBlobs:
    """The part of the client's state that says what is to be sent again."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def all(self) -> list[WantedBlob]:
        """What is to be answered, by the segments that held it."""
        rows = self._db.connection.execute("SELECT key, parcel, idx FROM wanted WHERE lost=0 ORDER BY parcel, idx, key")
        return [WantedBlob(*row) for row in rows]

    def want(self, missing: Iterable[bytes]) -> int:
        """The receiver lacks these: strike them from the known ones. How many are wanted by that.

        What is on its way to the receiver, wanted already or lost stays as it is. One transaction.
        """
        with self._db.transaction() as db:
            noted = {key for (key,) in db.execute("SELECT key FROM wanted")}
            new = set(missing) - noted
            found: dict[bytes, tuple[int, int]] = {}
            if new:
                found = self._strike(db, new)
            db.executemany(
                "INSERT INTO wanted VALUES (?, ?, ?, 0)", ((key, *found.get(key, (_NOWHERE, 0))) for key in new)
            )
        return len(new)

    def _strike(self, db: Connection, new: set[bytes]) -> dict[bytes, tuple[int, int]]:
        """Takes from ``new`` what is on its way, and the rest from the rows; which segment listed each."""
        hits = []
        for parcel, index, state, keys in db.execute("SELECT parcel, idx, state, keys FROM segments"):
            hit = new.intersection(cut_keys(keys))
            if hit:
                hits.append((parcel, index, hit))
                if state in (SegmentState.SPOOLED, SegmentState.SENT):
                    new -= hit
        found: dict[bytes, tuple[int, int]] = {}
        for parcel, index, hit in hits:
            gone = hit & new
            if gone:
                _strike_from(db, parcel, index, gone)
                found.update(dict.fromkeys(gone, (parcel, index)))
        return found

    def want_all_of(self, db: Connection, segment: SegmentRow) -> None:
        """What ends in a segment that is lost, and what began in it and ends in a later one: all of it is in
        no other segment. The caller strikes the segment's own keys."""
        place = segment.parcel_ord, segment.index
        own = db.execute("SELECT keys FROM segments WHERE parcel=? AND idx=?", place).fetchone()
        wanted = cut_keys(own[0])
        later = db.execute(
            "SELECT idx, keys FROM segments WHERE parcel=? AND idx>? AND keys!=x'' ORDER BY idx LIMIT 1", place
        ).fetchone()
        if later is not None:
            spanning = cut_keys(later[1])[:1]
            _strike_from(db, segment.parcel_ord, later[0], set(spanning))
            wanted += spanning
        db.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?, 0)", ((key, *place) for key in wanted))

    def lose(self, keys: Iterable[bytes]) -> None:
        """Nobody has these any more: catalogs that name them are void."""
        with self._db.transaction() as db:
            db.executemany("UPDATE wanted SET lost=1 WHERE key=?", ((key,) for key in keys))
            db.execute(COUNT_GENERATION)

    def forget_lost(self, still_missing: Iterable[bytes]) -> None:
        """Lost blobs that no receipt asks for any more need no note."""
        asked = set(still_missing)
        lost = {key for (key,) in self._db.connection.execute("SELECT key FROM wanted WHERE lost=1")}
        if lost - asked:
            with self._db.transaction() as db:
                db.executemany("DELETE FROM wanted WHERE key=? AND lost=1", ((key,) for key in lost - asked))


def _strike_from(db: Connection, parcel: int, index: int, gone: set[bytes]) -> None:
    row = db.execute("SELECT keys FROM segments WHERE parcel=? AND idx=?", (parcel, index)).fetchone()
    kept = b"".join(key for key in cut_keys(row[0]) if key not in gone)
    db.execute("UPDATE segments SET keys=? WHERE parcel=? AND idx=?", (kept, parcel, index))
