"""What a reducing tier remembers of one storage above: parcels and segments as any sender, and besides which blobs
are known above, which versions were passed on and what became of them, and what is asked for from above.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from secrets import token_bytes
from sqlite3 import Connection

from cdr_plugin.client.rows import SegmentRow, cut_keys
from cdr_plugin.client.state import ClientState, insert_segment
from cdr_plugin.client.states import SegmentEvent, SegmentState
from cdr_plugin.parcel.digest import digest_hash
from cdr_plugin.parcel.receipt import Receipt, VersionReceipt, VersionState
from cdr_plugin.parcel.version import SignedVersionRecord

_TABLES = """;
CREATE TABLE passed (key BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE forwarded (
    client BLOB NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, record BLOB NOT NULL, signature BLOB NOT NULL,
    parcel INTEGER NOT NULL, idx INTEGER NOT NULL, repeats INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT '',
    snapshot TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (client, number, hash)
    ) WITHOUT ROWID;
CREATE INDEX unsettled ON forwarded (client) WHERE record!=x'';
CREATE TABLE asked (
    client BLOB NOT NULL, key BLOB NOT NULL, is_open INTEGER NOT NULL, PRIMARY KEY (client, key)) WITHOUT ROWID;
CREATE TABLE opaque (
    client BLOB NOT NULL, parcel INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (parcel, idx, client)
    ) WITHOUT ROWID;
CREATE TABLE digest (hash BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE relays (client BLOB PRIMARY KEY, serial INTEGER NOT NULL, is_news INTEGER NOT NULL) WITHOUT ROWID
"""

_INDEXES = """
CREATE INDEX IF NOT EXISTS news ON relays (client) WHERE is_news=1
"""

MAX_REPEATS = 3
"""How often a record that the tier above does not name is sent anew: it may refuse it without a word."""
_INTRODUCED = "introduced:"
_SETTLED = (VersionState.COMMITTED, VersionState.INCOMPLETE, VersionState.REJECTED)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A version record that was passed on: whose, and what it is."""

    client: bytes
    number: int
    signed: SignedVersionRecord


@dataclass(frozen=True, slots=True)
class Passed:
    """What one segment holds: keys of blobs that end in it, versions, and clients with payloads in it that
    nobody has decoded yet."""

    keys: bytes
    versions: Sequence[Forwarded]
    opaque: Iterable[bytes]


class UplinkState(ClientState):
    """The state database of one uplink."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _TABLES, _INDEXES)

    # --- what goes up ---

    def is_passed(self, key: bytes) -> bool:
        """Do the tiers above have this blob, as far as is known, or is it on its way?"""
        if self._db.connection.execute("SELECT 1 FROM passed WHERE key=?", (key,)).fetchone() is not None:
            return True
        digest_key = self._digest_key
        if not digest_key:
            return False
        row = self._db.connection.execute("SELECT 1 FROM digest WHERE hash=?", (digest_hash(digest_key, key),))
        return row.fetchone() is not None

    # --- what the tier above says that it has ---

    @cached_property
    def _digest_key(self) -> bytes:
        return self.get("digest_key") or b""

    @property
    def digest_parts(self) -> tuple[bytes, int]:
        """The epoch of the digest that was taken in, and how many of its parts."""
        return self.get("digest_epoch") or b"", int(self.get("digest_parts") or b"0")

    def begin_digest(self, epoch: bytes, key: bytes) -> None:
        """Another epoch: nothing of the one before holds."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM digest")
            rows = [("digest_epoch", epoch), ("digest_key", key), ("digest_parts", b"0")]
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        self.__dict__.pop("_digest_key", None)

    def add_digest_part(self, number: int, hashes: Iterable[bytes]) -> None:
        with self._db.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO digest VALUES (?)", ((one,) for one in hashes))
            db.execute("INSERT OR REPLACE INTO meta VALUES ('digest_parts', ?)", (str(number + 1).encode(),))

    # --- what goes up, recorded ---

    @property
    def mark(self) -> bytes:
        """16 bytes of this very state: another one in its place has others."""
        found = self.get("mark")
        if found is None:
            found = token_bytes(16)
            self.put({"mark": found})
        return found

    def pass_keys(self, keys: Iterable[bytes]) -> None:
        """The segments that hold these blobs are recorded, or the tiers above have them by other ways."""
        with self._db.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO passed VALUES (?)", ((key,) for key in keys))

    def add_passed(self, parcel: int, index: int, size: int, sha256: bytes, passed: Passed) -> None:
        """Record a durable segment with all that it holds: one transaction."""
        with self._db.transaction() as db:
            insert_segment(db, parcel, index, size, sha256, passed.keys)
            db.executemany("INSERT OR IGNORE INTO passed VALUES (?)", ((key,) for key in cut_keys(passed.keys)))
            db.executemany("INSERT INTO opaque VALUES (?, ?, ?)", ((who, parcel, index) for who in passed.opaque))
            db.executemany(
                "INSERT INTO forwarded (client, number, hash, record, signature, parcel, idx) VALUES (?,?,?,?,?,?,?) "
                "ON CONFLICT DO UPDATE SET parcel=excluded.parcel, idx=excluded.idx",
                [
                    (v.client, v.number, v.signed.hash, v.signed.body, v.signed.signature, parcel, index)
                    for v in passed.versions
                ],
            )

    def _lost(self, db: Connection, segment: SegmentRow) -> None:
        """Its blobs are not known above, and its records go again. So do introductions, any of which it may have
        held: without one, what follows of a client in the parcel is passed over above, and nobody says so."""
        db.execute("DELETE FROM passed WHERE key IN (SELECT key FROM wanted)")
        place = segment.parcel_ord, segment.index
        db.execute("UPDATE forwarded SET parcel=0 WHERE parcel=? AND idx=? AND record!=x''", place)
        db.execute("DELETE FROM opaque WHERE parcel=? AND idx=?", place)
        db.execute("DELETE FROM meta WHERE key LIKE ?", (f"{_INTRODUCED}%",))

    def known_above(self) -> set[bytes]:
        """Clients of which the tier above has been told, as far as is known."""
        return {bytes.fromhex(client) for client in self.facts(_INTRODUCED)}

    def introduced(self, clients: Iterable[bytes]) -> None:
        """A segment that is recorded introduces these."""
        self.put({_INTRODUCED + client.hex(): b"" for client in clients})

    def releasable(self) -> list[SegmentRow]:
        """Segments of finished parcels that were taken above, and that hold nothing undecoded of a client of which
        no version behind them is settled: that is nowhere else here."""
        return self.holdings.rows(
            "s.state=? AND p.closed=1 AND NOT EXISTS (SELECT 1 FROM opaque o WHERE o.parcel=s.parcel AND o.idx=s.idx "
            "AND NOT EXISTS (SELECT 1 FROM forwarded f WHERE f.client=o.client AND f.parcel>=o.parcel "
            "AND f.state IN (?, ?, ?)))",
            SegmentState.TAKEN,
            *_SETTLED,
        )

    def release(self, rows: Sequence[SegmentRow]) -> None:
        """Nothing is asked of these segments any more: their rows go, with parcels that are empty then."""
        self.advance(rows, SegmentEvent.RELEASE)
        with self._db.transaction() as db:
            places = [(row.parcel_ord, row.index) for row in rows]
            db.executemany("DELETE FROM opaque WHERE parcel=? AND idx=?", places)
            db.executemany("UPDATE segments SET keys=x'' WHERE parcel=? AND idx=?", places)
            gone = (
                "SELECT ord FROM parcels p WHERE p.closed=1 AND NOT EXISTS "
                "(SELECT 1 FROM segments s WHERE s.parcel=p.ord AND s.state!=?)"
            )
            db.execute(f"DELETE FROM segments WHERE parcel IN ({gone})", (SegmentState.RELEASED,))
            db.execute("DELETE FROM parcels WHERE closed=1 AND ord NOT IN (SELECT parcel FROM segments)")

    def records_to_repeat(self) -> list[Forwarded]:
        """Records that no segment carries any more and that are not settled above."""
        rows = self._db.connection.execute(
            "SELECT client, number, record, signature FROM forwarded WHERE parcel=0 AND record!=x'' "
            "ORDER BY client, number"
        )
        return [Forwarded(client, number, SignedVersionRecord(body, sig)) for client, number, body, sig in rows]

    # --- what comes down ---

    def relayed_serial(self, client: bytes) -> int:
        """Of the newest relayed receipt about a client that was taken in; 0 before the first."""
        row = self._db.connection.execute("SELECT serial FROM relays WHERE client=?", (client,)).fetchone()
        return int(row[0]) if row else 0

    def take_relayed(self, client: bytes, receipt: Receipt) -> None:
        """What the tier above says of a client: its versions, and what it lacks. One transaction.

        What is on its way already is not asked for again. A record that was taken and is not named was lost
        there, with its state: it goes again.
        """
        named = {(version.number, version.record): version for version in receipt.versions}
        missing = {bytes((type_,)) + id_ for type_, id_ in receipt.missing}
        with self._db.transaction() as db:
            for version in receipt.versions:
                self._note_version(client, version)
            sql = "SELECT number, hash, parcel, idx FROM forwarded WHERE client=? AND record!=x'' AND repeats<?"
            for number, hash_, parcel, index in db.execute(sql, (client, MAX_REPEATS)).fetchall():
                if (number, hash_) not in named and parcel and not self._is_under_way(parcel, index):
                    db.execute(
                        "UPDATE forwarded SET parcel=0, repeats=repeats+1 WHERE client=? AND number=? AND hash=?",
                        (client, number, hash_),
                    )
            self._ask(client, missing)
            db.execute("INSERT OR REPLACE INTO relays VALUES (?, ?, 1)", (client, receipt.serial))

    def _note_version(self, client: bytes, version: VersionReceipt) -> None:
        """Also one that this state does not know, since it was lost, or since a tier before us passed it on."""
        self._db.connection.execute(
            "INSERT INTO forwarded (client, number, hash, record, signature, parcel, idx, state, snapshot, reason) "
            "VALUES (?4, ?5, ?6, x'', x'', 0, 0, ?1, ?2, ?3) "
            "ON CONFLICT DO UPDATE SET state=?1, snapshot=?2, reason=?3, "
            "record=CASE WHEN ?1 IN (?7, ?8, ?9) THEN x'' ELSE record END",
            (version.state, version.snapshot, version.reason, client, version.number, version.record, *_SETTLED),
        )

    def _is_under_way(self, parcel: int, index: int) -> bool:
        row = self._db.connection.execute(
            "SELECT state FROM segments WHERE parcel=? AND idx=?", (parcel, index)
        ).fetchone()
        return row is not None and row[0] in (SegmentState.SPOOLED, SegmentState.SENT)

    def _ask(self, client: bytes, missing: set[bytes]) -> None:
        db = self._db.connection
        known = {key for (key,) in db.execute("SELECT key FROM asked WHERE client=?", (client,))}
        db.executemany("DELETE FROM asked WHERE client=? AND key=?", ((client, key) for key in known - missing))
        open_ = missing - self._under_way(missing)
        db.executemany("INSERT OR REPLACE INTO asked VALUES (?, ?, 1)", ((client, key) for key in open_))
        db.executemany("DELETE FROM passed WHERE key=?", ((key,) for key in open_))
        if self._digest_key:
            hashes = ((digest_hash(self._digest_key, key),) for key in open_)
            db.executemany("DELETE FROM digest WHERE hash=?", hashes)

    def _under_way(self, keys: set[bytes]) -> set[bytes]:
        """Those of the blobs that a segment carries which has not been taken yet."""
        found: set[bytes] = set()
        rows = self._db.connection.execute(
            "SELECT keys FROM segments WHERE state IN (?, ?)", (SegmentState.SPOOLED, SegmentState.SENT)
        )
        for (packed,) in rows if keys else ():
            found |= keys.intersection(cut_keys(packed))
        return found

    def asked(self) -> list[tuple[bytes, bytes]]:
        """Client and key of what is to be answered, by key."""
        return self._db.connection.execute("SELECT client, key FROM asked WHERE is_open=1 ORDER BY key").fetchall()

    def answered(self, asked: Iterable[tuple[bytes, bytes]]) -> None:
        """These are on their way, or their clients are asked for them. Those that a later receipt still names are
        asked again."""
        with self._db.transaction() as db:
            db.executemany("UPDATE asked SET is_open=0 WHERE client=? AND key=?", asked)

    def told(self, client: bytes) -> dict[tuple[int, bytes], tuple[str, str, str]]:
        """Per number and record hash of a client's versions: state, snapshot and reason as the tier above tells
        them, empty before it does."""
        rows = self._db.connection.execute(
            "SELECT number, hash, state, snapshot, reason FROM forwarded WHERE client=?", (client,)
        )
        return {(number, hash_): (state, snapshot, reason) for number, hash_, state, snapshot, reason in rows}

    def with_news(self) -> set[bytes]:
        """Clients of whom the tier above said something that they have not been told."""
        rows = self._db.connection.execute("SELECT client FROM relays INDEXED BY news WHERE is_news=1")
        return {client for (client,) in rows}

    def told_news(self, client: bytes) -> None:
        with self._db.transaction() as db:
            db.execute("UPDATE relays SET is_news=0 WHERE client=?", (client,))

    def drop_wanted(self, keys: Iterable[bytes]) -> None:
        """What was lost on its way has been sent anew, or is nowhere: the tier above asks for it if it needs it."""
        with self._db.transaction() as db:
            db.executemany("DELETE FROM wanted WHERE key=?", ((key,) for key in keys))
