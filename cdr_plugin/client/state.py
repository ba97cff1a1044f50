"""What a client remembers: parcels, segments, versions, known blobs. See docs/design/client-state.md.

What the spool holds is in ``holdings``, what is to be sent again in ``wanted``: views of the same database.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from sqlite3 import Connection

from cdr_plugin.client.holdings import Holdings
from cdr_plugin.client.rows import KEY_BYTES, SegmentRow, blob_key, cut_keys
from cdr_plugin.client.standing_rows import StandingRows, follow
from cdr_plugin.client.states import SEGMENT, SegmentEvent, SegmentState, VersionState
from cdr_plugin.client.wanted import WantedBlobs
from cdr_plugin.tier_state import TierState

__all__ = ["KEY_BYTES", "ClientState", "ParcelRow", "SegmentRow", "VersionRow", "blob_key", "cut_keys"]

_VERSION = 1
_SCHEMA = """
CREATE TABLE parcels (
    ord INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, secret BLOB NOT NULL,
    answers INTEGER NOT NULL DEFAULT 0, closed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE segments (
    parcel INTEGER NOT NULL REFERENCES parcels(ord), idx INTEGER NOT NULL, size INTEGER NOT NULL,
    sha256 BLOB NOT NULL, state TEXT NOT NULL, held INTEGER NOT NULL, keys BLOB NOT NULL,
    PRIMARY KEY (parcel, idx)) WITHOUT ROWID;
CREATE INDEX held ON segments (held, state, parcel, idx, size) WHERE held=1;
CREATE TABLE wanted (
    key BLOB PRIMARY KEY, parcel INTEGER NOT NULL, idx INTEGER NOT NULL, lost INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE versions (
    number INTEGER PRIMARY KEY, parcel INTEGER NOT NULL, record BLOB NOT NULL, signature BLOB NOT NULL,
    hash BLOB NOT NULL, again INTEGER NOT NULL DEFAULT 0, tree BLOB NOT NULL,
    time TEXT NOT NULL, state TEXT NOT NULL, snapshot TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '', places BLOB NOT NULL DEFAULT x'')
"""


@dataclass(frozen=True, slots=True)
class ParcelRow:
    """A parcel: ``segments`` counts those recorded so far; ``answers``: it holds what was lost before."""

    ord: int
    id: bytes
    segments: int
    closed: bool
    answers: bool


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A captured version; ``record`` is the signed body, ``hash`` its SHA-256. ``places``: where its files
    were found, see ``archived.Places``; known only while it is captured."""

    number: int
    record: bytes
    signature: bytes
    hash: bytes
    tree: bytes
    time: str
    state: VersionState
    snapshot: str = ""
    reason: str = ""
    places: bytes = b""


class ClientState(TierState):
    """The state database of one client. ``more``: further tables, as SQL; ``indexes``: see ``Database``."""

    def __init__(self, folder: Path, more: str = "", indexes: str = "") -> None:
        super().__init__(folder, _SCHEMA + more, _VERSION, indexes)

    @cached_property
    def holdings(self) -> Holdings:
        """What the spool holds, and what rests on recipes."""
        return Holdings(self._db)

    @cached_property
    def wanted(self) -> WantedBlobs:
        """Blobs that are to be sent again."""
        return WantedBlobs(self._db)

    @cached_property
    def standing(self) -> StandingRows:
        """What the top tier's standing speaks of."""
        return StandingRows(self._db)

    # --- parcels and segments ---

    def open_parcel(self, parcel_id: bytes, secret: bytes, *, answers: bool = False) -> int:
        with self._db.transaction() as db:
            cursor = db.execute(
                "INSERT INTO parcels (id, secret, answers) VALUES (?, ?, ?)", (parcel_id, secret, answers)
            )
        return int(cursor.lastrowid or 0)

    def newest_parcel(self) -> int:
        """Order of the parcel that was opened last; 0 before the first."""
        return int(self._db.connection.execute("SELECT COALESCE(MAX(ord), 0) FROM parcels").fetchone()[0])

    def secret_of(self, parcel: int) -> bytes:
        """ID and key of a parcel, see ``ParcelSecret``."""
        row = self._db.connection.execute("SELECT secret FROM parcels WHERE ord=?", (parcel,)).fetchone()
        return bytes(row[0])

    def add_segment(self, parcel: int, index: int, size: int, sha256: bytes, keys: bytes) -> None:
        """Record a durable segment and the blobs that end in it; from now on they are known."""
        with self._db.transaction() as db:
            insert_segment(db, parcel, index, size, sha256, keys)

    def capture(self, parcel: int, index: int, size: int, sha256: bytes, keys: bytes, version: VersionRow) -> None:
        """Record the last segment, close the parcel and make the version the newest: one transaction."""
        with self._db.transaction() as db:
            insert_segment(db, parcel, index, size, sha256, keys)
            db.execute("UPDATE parcels SET closed=1 WHERE ord=?", (parcel,))
            db.execute(
                "INSERT INTO versions (number, parcel, record, signature, hash, tree, time, state, places) "
                "VALUES (?,?,?,?,?,?,?,?,?)",
                (
                    version.number,
                    parcel,
                    version.record,
                    version.signature,
                    version.hash,
                    version.tree,
                    version.time,
                    version.state,
                    version.places,
                ),
            )

    def close_parcel(self, parcel: int) -> None:
        """Its writer has ended, and nothing follows."""
        with self._db.transaction() as db:
            db.execute("UPDATE parcels SET closed=1 WHERE ord=?", (parcel,))

    def close_parcels(self, *, answers: bool = False) -> None:
        """Close what a crash left open; only under the lock of the one who writes such parcels."""
        with self._db.transaction() as db:
            db.execute("UPDATE parcels SET closed=1 WHERE closed=0 AND answers=?", (answers,))

    def open_parcels(self) -> list[bytes]:
        """IDs of parcels that somebody may be writing now."""
        return [id_ for (id_,) in self._db.connection.execute("SELECT id FROM parcels WHERE closed=0")]

    def parcels(self) -> list[ParcelRow]:
        """Parcels with segments that are not released, in the order in which they are to be taken."""
        rows = self._db.connection.execute(
            "SELECT p.ord, p.id, COUNT(*), p.closed, p.answers FROM parcels p JOIN segments s ON s.parcel=p.ord "
            "GROUP BY p.ord HAVING SUM(s.state!=?) > 0 ORDER BY p.answers DESC, p.ord",
            (SegmentState.RELEASED,),
        )
        return [ParcelRow(ord_, id_, count, bool(shut), bool(answers)) for ord_, id_, count, shut, answers in rows]

    def segments(self, *states: SegmentState) -> list[SegmentRow]:
        """Segments in one of ``states``, in the order in which they travel: answers before versions."""
        marks = ",".join("?" * len(states))
        return self.holdings.rows(f"s.state IN ({marks})", *states)

    def first_unsent(self, parcel_ord: int) -> int | None:
        """The lowest index of a parcel that waits to be sent; None when none does."""
        row = self._db.connection.execute(
            "SELECT MIN(idx) FROM segments WHERE parcel=? AND state=?", (parcel_ord, SegmentState.SPOOLED)
        ).fetchone()
        return row[0] if row[0] is None else int(row[0])

    def reseal(
        self, parcel: int, parcel_id: bytes, secret: bytes, sealed: Iterable[tuple[SegmentRow, int, bytes]]
    ) -> None:
        """Segments of a parcel were sealed anew, under another ID: their rows, new sizes and hashes. They wait."""
        with self._db.transaction() as db:
            db.execute("UPDATE parcels SET id=?, secret=? WHERE ord=?", (parcel_id, secret, parcel))
            for row, size, sha256 in sealed:
                db.execute(
                    "UPDATE segments SET size=?, sha256=?, state=? WHERE parcel=? AND idx=?",
                    (size, sha256, SEGMENT.next(row.state, SegmentEvent.RETURN), parcel, row.index),
                )

    def is_answer(self, segment: SegmentRow) -> bool:
        """Was it asked for: is it in a parcel of answers, or put before, as what was put behind it tells?"""
        sql = (
            "SELECT 1 FROM parcels WHERE ord=?1 AND answers=1 UNION ALL "
            "SELECT 1 FROM segments WHERE parcel=?1 AND idx>?2 AND state!=?3 LIMIT 1"
        )
        values = segment.parcel_ord, segment.index, SegmentState.SPOOLED
        return self._db.connection.execute(sql, values).fetchone() is not None

    def lose(self, segment: SegmentRow) -> None:
        """Its object will not be taken: it leaves the queue, and what it held is wanted, or repeated.

        It may have carried any record that is not answered yet: its own version's or, in answers, repeated ones,
        which are in transit. What waits untouched must not be repeated: it may be replaced.
        """
        with self._db.transaction() as db:
            self.wanted.want_all_of(db, segment)
            db.execute(
                "UPDATE segments SET keys=x'', held=0, state=? WHERE parcel=? AND idx=?",
                (SEGMENT.next(segment.state, SegmentEvent.LOSE), segment.parcel_ord, segment.index),
            )
            db.execute(
                "UPDATE versions SET again=1 WHERE parcel<=?1 AND record!=x'' AND "
                "(state=?2 OR (state=?3 AND EXISTS (SELECT 1 FROM parcels WHERE ord=?1 AND answers=0)))",
                (segment.parcel_ord, VersionState.IN_TRANSIT, VersionState.CAPTURED),
            )
            self._lost(db, segment)

    def _lost(self, db: Connection, segment: SegmentRow) -> None:
        """What else a lost segment carried, for states that know more; in the transaction that loses it."""

    def advance(self, segments: Iterable[SegmentRow], event: SegmentEvent) -> None:
        """Apply one event to segments in one transaction; those already past it stay. What is released is not
        held any more."""
        held = "" if event is not SegmentEvent.RELEASE else ", held=0"
        with self._db.transaction() as db:
            for row in segments:
                db.execute(
                    f"UPDATE segments SET state=?{held} WHERE parcel=? AND idx=? AND state=?",
                    (SEGMENT.next(row.state, event), row.parcel_ord, row.index, row.state),
                )

    # --- what an adoption gave ---

    def baseline_parcel(self, series: bytes) -> int:
        """The parcel that stands for a baseline: nothing of it travels, it has no key."""
        with self._db.transaction() as db:
            db.execute("INSERT OR IGNORE INTO parcels (id, secret, closed) VALUES (?, x'', 1)", (series,))
            return int(db.execute("SELECT ord FROM parcels WHERE id=?", (series,)).fetchone()[0])

    def baseline_parts(self, parcel: int) -> dict[int, int]:
        """Numbers of the parts that are recorded, and how many blobs each makes known."""
        sql = "SELECT idx, LENGTH(keys) FROM segments WHERE parcel=?"
        return {number: size // KEY_BYTES for number, size in self._db.connection.execute(sql, (parcel,))}

    def add_baseline_part(self, parcel: int, number: int, keys: bytes) -> None:
        """From now on these blobs are known, as if their segment had been released."""
        with self._db.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO segments VALUES (?, ?, 0, x'', ?, 0, ?)",
                (parcel, number, SegmentState.RELEASED, keys),
            )

    def end_baseline(self, serial: int, newest: VersionRow | None) -> None:
        """The baseline is taken. ``newest`` is the version that our next one follows; its record is not here.
        Only under the lock of the one writer."""
        with self._db.transaction() as db:
            if newest is not None:
                follow(db, newest)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('baseline_serial', ?)", (str(serial).encode(),))

    # --- known blobs ---

    def known(self) -> Iterator[bytes]:
        """The keys (type byte and ID) of the blobs that need not be sent again, end to end, a segment at a time."""
        for (keys,) in self._db.connection.execute("SELECT keys FROM segments"):
            yield keys

    @property
    def catalog_generation(self) -> int:
        """Grows whenever known blobs were struck: catalogs of an older generation are void."""
        return int(self.get("generation") or b"0")

    def catalog_path(self, number: int, generation: int) -> Path:
        """Where the catalog of a version is, or will be once that version is captured."""
        return self.folder / f"catalog-{number}-{generation}"

    # --- versions ---

    def newest_version(self) -> VersionRow | None:
        found = self.versions("ORDER BY number DESC LIMIT 1")
        return found[0] if found else None

    def versions_to_repeat(self) -> list[VersionRow]:
        """Versions whose record may have been in a segment that was lost; the next answers carry them again, and
        no version does: it might be taken back. What a baseline told us of a version is no record."""
        return self.versions("WHERE again=1 AND record!=x'' ORDER BY number")

    def repeated(self, versions: Iterable[VersionRow]) -> None:
        """Their records are in the queue again, and on their way from now on."""
        with self._db.transaction() as db:
            for version in versions:
                db.execute("UPDATE versions SET again=0 WHERE number=?", (version.number,))
                db.execute(
                    "UPDATE versions SET state=? WHERE number=? AND state=?",
                    (VersionState.IN_TRANSIT, version.number, VersionState.CAPTURED),
                )

    def versions(self, tail: str = "ORDER BY number") -> list[VersionRow]:
        rows = self._db.connection.execute(
            f"SELECT number, record, signature, hash, tree, time, state, snapshot, reason, places FROM versions {tail}"
        )
        return [_version_row(row) for row in rows]

    def version(self, number: int) -> VersionRow | None:
        found = self.versions(f"WHERE number={int(number)}")
        return found[0] if found else None

    def versions_by_parcel(self) -> dict[int, VersionRow]:
        """The version whose record ends each parcel."""
        parcels = dict(self._db.connection.execute("SELECT number, parcel FROM versions"))
        return {parcels[row.number]: row for row in self.versions()}

    def parcel_of_version(self, number: int) -> int:
        """Order of the parcel that carried a version's record, which must be known."""
        row = self._db.connection.execute("SELECT parcel FROM versions WHERE number=?", (number,)).fetchone()
        return int(row[0])

    def begin(self, parcel: int) -> None:
        """Before the first put of a parcel: somebody may see the versions whose records it can hold from now
        on, so that nothing replaces them any more."""
        bound = VersionState.IN_TRANSIT, VersionState.CAPTURED, parcel
        waits = "state=? AND parcel<=? AND EXISTS (SELECT 1 FROM parcels WHERE ord=? AND answers=0)"
        if self._db.connection.execute(f"SELECT 1 FROM versions WHERE {waits}", (*bound[1:], parcel)).fetchone():
            with self._db.transaction() as db:
                db.execute(f"UPDATE versions SET state=? WHERE {waits}", (*bound, parcel))

    def set_version(self, number: int, state: VersionState, snapshot: str, reason: str) -> None:
        with self._db.transaction() as db:
            db.execute(
                "UPDATE versions SET state=?, snapshot=?, reason=? WHERE number=?", (state, snapshot, reason, number)
            )

    def queue(self) -> tuple[int, int]:
        """Segments and bytes that wait to be sent."""
        row = self._db.connection.execute(
            "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM segments WHERE state=?", (SegmentState.SPOOLED,)
        ).fetchone()
        return int(row[0]), int(row[1])


def insert_segment(db: Connection, parcel: int, index: int, size: int, sha256: bytes, keys: bytes) -> None:
    """What it holds is known from now on, and wanted no more; but for a blob that began in a segment which has
    been lost meanwhile."""
    torn = keys[:KEY_BYTES] if keys and _ends_in_loss(db, parcel) else b""
    keys = keys[len(torn) :]
    db.execute(
        "INSERT INTO segments VALUES (?, ?, ?, ?, ?, 1, ?)", (parcel, index, size, sha256, SegmentState.SPOOLED, keys)
    )
    if torn:
        db.execute("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?, 0)", (torn, parcel, index))
    if db.execute("SELECT 1 FROM wanted LIMIT 1").fetchone():
        db.executemany("DELETE FROM wanted WHERE key=?", ((key,) for key in cut_keys(keys)))


def _ends_in_loss(db: Connection, parcel: int) -> bool:
    """Was a segment of a parcel that is being written lost, behind the last one in which a blob ends? Nothing else
    releases such segments."""
    rows = "SELECT state, LENGTH(keys) FROM segments WHERE parcel=? ORDER BY idx DESC"
    for state, size in db.execute(rows, (parcel,)):
        if size or state == SegmentState.RELEASED:
            return not size
    return False


def _version_row(row: tuple[int, bytes, bytes, bytes, bytes, str, str, str, str, bytes]) -> VersionRow:
    number, record, signature, hash_, tree, time, state, snapshot, reason, places = row
    return VersionRow(number, record, signature, hash_, tree, time, VersionState(state), snapshot, reason, places)
