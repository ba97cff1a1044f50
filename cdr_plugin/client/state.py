"""What a client remembers: parcels, segments, versions, known blobs. See docs/design/client-state.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cdr_plugin.client.states import SEGMENT, SegmentEvent, SegmentState, VersionState
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.tier_state import TierState

KEY_BYTES = 33
"""A blob in a ``segments`` row: one byte of type, 32 of ID."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE parcels (
    ord INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL UNIQUE, secret BLOB NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE segments (
    parcel INTEGER NOT NULL REFERENCES parcels(ord), idx INTEGER NOT NULL, size INTEGER NOT NULL,
    sha256 BLOB NOT NULL, state TEXT NOT NULL, keys BLOB NOT NULL, PRIMARY KEY (parcel, idx)) WITHOUT ROWID;
CREATE TABLE versions (
    number INTEGER PRIMARY KEY, parcel INTEGER NOT NULL, record BLOB NOT NULL, signature BLOB NOT NULL,
    hash BLOB NOT NULL, again INTEGER NOT NULL DEFAULT 0, tree BLOB NOT NULL,
    time TEXT NOT NULL, state TEXT NOT NULL, snapshot TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '')
"""
_COUNT_GENERATION = (
    "INSERT INTO meta VALUES ('generation', '1') ON CONFLICT(key) DO UPDATE SET value=CAST(value AS INT)+1"
)


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One sealed segment; ``size`` in bytes, ``sha256`` of the whole object."""

    parcel_ord: int
    parcel_id: bytes
    index: int
    size: int
    sha256: bytes
    state: SegmentState


@dataclass(frozen=True, slots=True)
class ParcelRow:
    """A parcel: ``segments`` counts those recorded so far."""

    ord: int
    id: bytes
    segments: int
    closed: bool


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A captured version; ``record`` is the signed body, ``hash`` its SHA-256."""

    number: int
    record: bytes
    signature: bytes
    hash: bytes
    tree: bytes
    time: str
    state: VersionState
    snapshot: str = ""
    reason: str = ""


def blob_key(type_: BlobType, id_: BlobId) -> bytes:
    return bytes((type_,)) + id_


def cut_keys(keys: bytes) -> list[bytes]:
    """The keys that stand end to end in a ``segments`` row."""
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]


class ClientState(TierState):
    """The state database of one client."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _SCHEMA, _VERSION)

    # --- parcels and segments ---

    def open_parcel(self, parcel_id: bytes, secret: bytes) -> int:
        with self._db.transaction() as db:
            cursor = db.execute("INSERT INTO parcels (id, secret) VALUES (?, ?)", (parcel_id, secret))
        return int(cursor.lastrowid or 0)

    def add_segment(self, parcel: int, index: int, size: int, sha256: bytes, keys: bytes) -> None:
        """Record a durable segment and the blobs that end in it; from now on they are known."""
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?)",
                (parcel, index, size, sha256, SegmentState.SPOOLED, keys),
            )

    def capture(self, parcel: int, index: int, size: int, sha256: bytes, keys: bytes, version: VersionRow) -> None:
        """Record the last segment, close the parcel and make the version the newest: one transaction."""
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?)",
                (parcel, index, size, sha256, SegmentState.SPOOLED, keys),
            )
            db.execute("UPDATE parcels SET closed=1 WHERE ord=?", (parcel,))
            db.execute("UPDATE versions SET again=0")
            db.execute(
                "INSERT INTO versions (number, parcel, record, signature, hash, tree, time, state) "
                "VALUES (?,?,?,?,?,?,?,?)",
                (
                    version.number,
                    parcel,
                    version.record,
                    version.signature,
                    version.hash,
                    version.tree,
                    version.time,
                    version.state,
                ),
            )

    def close_parcels(self) -> None:
        """Close what a crash left open; only under the lock of the one writer."""
        with self._db.transaction() as db:
            db.execute("UPDATE parcels SET closed=1 WHERE closed=0")

    def parcels(self) -> list[ParcelRow]:
        """Parcels with segments that are not released, in the order in which they were opened."""
        rows = self._db.connection.execute(
            "SELECT p.ord, p.id, COUNT(*), p.closed FROM parcels p JOIN segments s ON s.parcel=p.ord "
            "GROUP BY p.ord HAVING SUM(s.state!=?) > 0 ORDER BY p.ord",
            (SegmentState.RELEASED,),
        )
        return [ParcelRow(ord_, id_, count, bool(closed)) for ord_, id_, count, closed in rows]

    def segments(self, *states: SegmentState) -> list[SegmentRow]:
        """Segments in one of ``states``, in the order in which they travel."""
        marks = ",".join("?" * len(states))
        rows = self._db.connection.execute(
            "SELECT s.parcel, p.id, s.idx, s.size, s.sha256, s.state FROM segments s JOIN parcels p ON p.ord=s.parcel "
            f"WHERE s.state IN ({marks}) ORDER BY s.parcel, s.idx",
            states,
        )
        return [SegmentRow(ord_, id_, idx, size, sha, SegmentState(state)) for ord_, id_, idx, size, sha, state in rows]

    def first_unsent(self, parcel_ord: int) -> int | None:
        """The lowest index of a parcel that waits to be sent; None when none does."""
        row = self._db.connection.execute(
            "SELECT MIN(idx) FROM segments WHERE parcel=? AND state=?", (parcel_ord, SegmentState.SPOOLED)
        ).fetchone()
        return row[0] if row[0] is None else int(row[0])

    def lose(self, segment: SegmentRow) -> None:
        """The spooled object is no more: its row goes, its blobs count as never sent.

        It may have carried any record that is not answered yet: its own version's or a repeated one.
        """
        with self._db.transaction() as db:
            db.execute(
                "UPDATE segments SET keys=x'', state=? WHERE parcel=? AND idx=?",
                (SegmentState.RELEASED, segment.parcel_ord, segment.index),
            )
            db.execute(
                "UPDATE versions SET again=1 WHERE parcel<=? AND state IN (?, ?)",
                (segment.parcel_ord, VersionState.CAPTURED, VersionState.IN_TRANSIT),
            )
            db.execute(_COUNT_GENERATION)

    def advance(self, segments: Iterable[SegmentRow], event: SegmentEvent) -> None:
        """Apply one event to segments in one transaction; those already past it stay."""
        with self._db.transaction() as db:
            for row in segments:
                db.execute(
                    "UPDATE segments SET state=? WHERE parcel=? AND idx=? AND state=?",
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
                "INSERT OR IGNORE INTO segments VALUES (?, ?, 0, x'', ?, ?)",
                (parcel, number, SegmentState.RELEASED, keys),
            )

    def end_baseline(self, serial: int, parcel: int, newest: VersionRow | None) -> None:
        """The baseline is taken. ``newest`` is the version that our next one follows, in place of those of
        ours from its number on; its record is not here. Only under the lock of the one writer."""
        with self._db.transaction() as db:
            if newest is not None:
                db.execute("DELETE FROM versions WHERE number>=?", (newest.number,))
                db.execute(
                    "INSERT INTO versions (number, parcel, record, signature, hash, tree, time, state, snapshot) "
                    "VALUES (?,?,x'',x'',?,?,?,?,?)",
                    (
                        newest.number,
                        parcel,
                        newest.hash,
                        newest.tree,
                        newest.time,
                        newest.state,
                        newest.snapshot,
                    ),
                )
            db.execute("INSERT OR REPLACE INTO meta VALUES ('baseline_serial', ?)", (str(serial).encode(),))

    # --- known blobs ---

    def known(self) -> Iterator[bytes]:
        """The keys (type byte and ID) of the blobs that need not be sent again, end to end, a segment at a time."""
        for (keys,) in self._db.connection.execute("SELECT keys FROM segments"):
            yield keys

    def forget_blobs(self, missing: set[bytes]) -> None:
        """Strike blobs that the receiver does not have; the next version reads and sends them anew."""
        with self._db.transaction() as db:
            rows = db.execute("SELECT parcel, idx, keys FROM segments").fetchall()
            for parcel, index, keys in rows:
                cut = cut_keys(keys)
                kept = [key for key in cut if key not in missing]
                if len(kept) != len(cut):
                    db.execute("UPDATE segments SET keys=? WHERE parcel=? AND idx=?", (b"".join(kept), parcel, index))
            db.execute(_COUNT_GENERATION)

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
        """Versions whose record may have been in a segment that was lost; the next version's parcel
        carries them again. What a baseline told us of a version is no record."""
        return self.versions("WHERE again=1 AND record!=x'' ORDER BY number")

    def versions(self, tail: str = "ORDER BY number") -> list[VersionRow]:
        rows = self._db.connection.execute(
            f"SELECT number, record, signature, hash, tree, time, state, snapshot, reason FROM versions {tail}"
        )
        return [_version_row(row) for row in rows]

    def version(self, number: int) -> VersionRow | None:
        found = self.versions(f"WHERE number={int(number)}")
        return found[0] if found else None

    def parcel_of_version(self, number: int) -> int:
        """Order of the parcel that carried a version's record, which must be known."""
        row = self._db.connection.execute("SELECT parcel FROM versions WHERE number=?", (number,)).fetchone()
        return int(row[0])

    def mark_in_transit(self) -> None:
        """Versions all of whose segments have been sent are on their way."""
        with self._db.transaction() as db:
            db.execute(
                "UPDATE versions SET state=? "
                "WHERE state=? AND parcel NOT IN (SELECT parcel FROM segments WHERE state=?)",
                (VersionState.IN_TRANSIT, VersionState.CAPTURED, SegmentState.SPOOLED),
            )

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


def _version_row(row: tuple[int, bytes, bytes, bytes, bytes, str, str, str, str]) -> VersionRow:
    number, record, signature, hash_, tree, time, state, snapshot, reason = row
    return VersionRow(number, record, signature, hash_, tree, time, VersionState(state), snapshot, reason)
