"""What the top tier remembers between passes. A hint: see docs/design/top-tier.md.

One database a group. Rows of a pass are collected in memory and written in one transaction
(``checkpoint``), after the repository has made everything durable that they claim.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import merge
from pathlib import Path
from typing import Any, NamedTuple

from cdr_plugin.database import Database
from cdr_plugin.model.blobs import BlobId, BlobType, Payload
from cdr_plugin.tier_state import TierState

_VERSION = 1
_SCHEMA = """
CREATE TABLE clients (id INTEGER PRIMARY KEY, fingerprint BLOB NOT NULL UNIQUE);
CREATE TABLE taken (
    client INTEGER NOT NULL, parcel BLOB NOT NULL, idx INTEGER NOT NULL, sha256 BLOB NOT NULL,
    reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (client, parcel, idx)) WITHOUT ROWID;
CREATE TABLE possession (
    client INTEGER NOT NULL, key BLOB NOT NULL, reached INTEGER NOT NULL, PRIMARY KEY (client, key)) WITHOUT ROWID;
CREATE INDEX unreached ON possession (client) WHERE reached=0;
CREATE TABLE held_trees (
    client INTEGER NOT NULL, id BLOB NOT NULL, method TEXT NOT NULL, length INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (client, id));
CREATE TABLE versions (
    client INTEGER NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL, signature BLOB NOT NULL,
    hash BLOB NOT NULL, previous BLOB NOT NULL, state TEXT NOT NULL, time TEXT NOT NULL,
    snapshot TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', place INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (client, number, hash)) WITHOUT ROWID;
CREATE TABLE missing (client INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (client, key)) WITHOUT ROWID
"""

_INDEXES = """
CREATE INDEX IF NOT EXISTS waiting ON versions (client) WHERE state='pending' AND reason=''
"""

_ROWS_AT_ONCE = 50_000


class VersionState(StrEnum):
    """Of a version at the top; ``pending`` waits for blobs or for an earlier number, ``incomplete``
    was closed because a later version became complete first."""

    PENDING = "pending"
    COMMITTED = "committed"
    INCOMPLETE = "incomplete"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version record that arrived. ``hash`` is the record's, ``previous`` that of the version that it
    follows: empty for the first one, and where it is not known. ``record`` is empty once it is settled, and
    ``signature`` where it is not known. ``time`` is the one its snapshot gets
    (RFC 3339). ``place``: the order in which versions were settled, from 1; 0 while one waits.

    Numbers are not unique: two machines with one identity, or one whose state was lost, give them twice.
    """

    number: int
    record: bytes
    signature: bytes
    hash: bytes
    previous: bytes
    state: VersionState
    time: str
    snapshot: str = ""
    reason: str = ""
    place: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        """Of committed versions, the newest has the highest: by number, then by the order of commits."""
        return self.number, self.place


def newest_committed(versions: Iterable[VersionRow]) -> VersionRow | None:
    """The client's newest version, as receipt and standing name it; None before the first."""
    committed = (v for v in versions if v.state is VersionState.COMMITTED)
    return max(committed, key=lambda v: v.rank, default=None)


class TopState(TierState):
    """The state database of one group at the top tier."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _SCHEMA, _VERSION, _INDEXES)

    def client(self, fingerprint: bytes) -> ClientRows:
        """The rows of one client; made when it is seen first."""
        with self._db.transaction() as db:
            db.execute("INSERT OR IGNORE INTO clients (fingerprint) VALUES (?)", (fingerprint,))
            row = db.execute("SELECT id FROM clients WHERE fingerprint=?", (fingerprint,)).fetchone()
        return ClientRows(self._db, row[0])

    def rejections(self, parcel: bytes, index: int) -> list[Rejection]:
        """Of whom an object with this place was rejected, and not replaced by a sound one."""
        rows = self._db.connection.execute(
            "SELECT fingerprint, sha256, reason FROM taken JOIN clients ON clients.id=taken.client "
            "WHERE parcel=? AND idx=? AND reason!=''",
            (parcel, index),
        )
        return [Rejection(*row) for row in rows]

    def with_waiting(self) -> set[bytes]:
        """Fingerprints of clients with versions that wait for no reason: something is to be done for them."""
        rows = self._db.connection.execute(
            "SELECT DISTINCT fingerprint FROM versions INDEXED BY waiting JOIN clients ON clients.id=versions.client "
            "WHERE state='pending' AND reason=''"
        )
        return {fingerprint for (fingerprint,) in rows}

    def newest_committed(self) -> dict[bytes, VersionRow]:
        """By fingerprint, each client's newest version; none of those that have no committed one. A look for each
        client, however many versions it has."""
        rows = self._db.connection.execute(
            f"SELECT fingerprint, {_VERSION_COLUMNS} FROM clients JOIN versions v ON v.client=clients.id "
            "AND v.number=(SELECT number FROM versions WHERE client=clients.id AND state='committed' "
            "ORDER BY number DESC LIMIT 1) WHERE state='committed' ORDER BY place"
        )
        return {fingerprint: _version_row(row) for fingerprint, *row in rows}  # behind a fork the last one

    def forget_taken(self) -> None:
        """Every segment that still lies with its client counts as not taken, and every head as not answered."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM taken")
            db.execute("DELETE FROM meta WHERE key LIKE 'answered:%' OR key LIKE 'looks:heads:%'")

    def possessed_by_others(self, fingerprints: Sequence[bytes]) -> Iterator[bytes]:
        """Keys that some client possesses who is none of these, each once."""
        marks = ",".join("?" * len(fingerprints))
        yield from (
            row[0]
            for row in self._db.connection.execute(
                "SELECT DISTINCT key FROM possession WHERE client IN "
                f"(SELECT id FROM clients WHERE fingerprint NOT IN ({marks}))",
                tuple(fingerprints),
            )
        )


class Rejection(NamedTuple):
    """The fingerprint of a client, the SHA-256 of its object, and why it was rejected."""

    client: bytes
    object: bytes
    reason: str


class TakenSegment(NamedTuple):
    """Of a segment that was taken nothing but the index; of one that was rejected the object's SHA-256, and why."""

    idx: int
    sha256: bytes = b""
    reason: str = ""


class ClientRows:
    """What the top remembers of one client: the durable rows plus those of the pass under way.

    Questions see both; ``checkpoint`` makes the pass's rows durable in one transaction.
    """

    def __init__(self, db: Database, client: int) -> None:
        self._db = db
        self._client = client
        self._possessed: dict[bytes, int] = {}
        self._held: dict[bytes, Payload] = {}
        self._released: set[bytes] = set()
        self._taken: defaultdict[bytes, dict[int, TakenSegment]] = defaultdict(dict)
        self._versions: dict[tuple[int, bytes], VersionRow] = {}
        self._missing: set[bytes] = set()
        self._found: set[bytes] = set()
        self._absolves = False
        self._last_place = 0
        self._arriving: bool | None = None

    # --- segments ---

    def taken(self, parcel: bytes) -> Iterator[TakenSegment]:
        """The segments of a parcel that are done with, by index: there may be millions.

        Of this client alone: parcel IDs are public, so another client may send a parcel of that ID.
        """
        fresh = self._taken.get(parcel, {})
        rows = self._db.connection.execute(
            "SELECT idx, sha256, reason FROM taken WHERE client=? AND parcel=? ORDER BY idx", (self._client, parcel)
        )
        durable = (TakenSegment(*row) for row in rows if row[0] not in fresh)
        return merge(durable, [fresh[index] for index in sorted(fresh)])

    def outcome(self, parcel: bytes, index: int) -> TakenSegment | None:
        """What became of one segment; None when it is not done with."""
        if index in (fresh := self._taken.get(parcel, {})):
            return fresh[index]
        row = self._db.connection.execute(
            "SELECT idx, sha256, reason FROM taken WHERE client=? AND parcel=? AND idx=?",
            (self._client, parcel, index),
        ).fetchone()
        return TakenSegment(*row) if row else None

    def take(self, parcel: bytes, index: int) -> None:
        """Note that a segment was taken. Its object is not hashed (0.5 s per GB): it was authentic, and
        whatever else comes under its name is a replay."""
        self._taken[parcel][index] = TakenSegment(index)

    def reject(self, parcel: bytes, index: int, sha256: bytes, reason: str) -> None:
        """Note that the object with this hash was rejected; another one may take its place."""
        self._taken[parcel][index] = TakenSegment(index, sha256, reason)

    # --- possession ---

    def possess(self, key: bytes) -> None:
        """The client has delivered this blob (type byte and ID)."""
        self._possessed.setdefault(key, 0)
        self._found.add(key)
        self._arriving = True

    def possesses(self, key: bytes) -> bool:
        if key in self._possessed:
            return True
        if key in self._missing:
            return False
        row = self._db.connection.execute(
            "SELECT 1 FROM possession WHERE client=? AND key=?", (self._client, key)
        ).fetchone()
        return row is not None

    def reach(self, keys: Iterable[bytes]) -> None:
        """A committed version reaches these blobs: they need no pin any more."""
        self._possessed.update(dict.fromkeys(keys, 1))

    def grant(self, keys: Iterable[bytes]) -> None:
        """By the operator's word the client possesses these blobs, which a present snapshot reaches."""
        granted = list(keys)
        self.reach(granted)
        self._found.update(granted)

    def possessed(self) -> Iterator[bytes]:
        """Every key that is durably recorded as possessed, ascending; changes meanwhile may be missed."""
        last = b""
        while True:
            rows = self._db.connection.execute(
                "SELECT key FROM possession WHERE client=? AND key>? ORDER BY key LIMIT ?",
                (self._client, last, _ROWS_AT_ONCE),
            ).fetchall()
            yield from (row[0] for row in rows)
            if len(rows) < _ROWS_AT_ONCE:
                return
            last = rows[-1][0]

    def disown(self, keys: Iterable[bytes]) -> None:
        """These blobs are gone or were never delivered; the receipt asks for them."""
        for key in keys:
            self._possessed.pop(key, None)
            self._missing.add(key)
            self._found.discard(key)
            if key[0] == BlobType.TREE:
                self.release([key[1:]])  # what cannot be read is not worth holding

    def absolve(self) -> None:
        """No version needs what the client was asked for so far: it is not asked again, and does not
        possess it. What this pass found to be missing is asked for still."""
        self._absolves = True

    def missing(self, most: int) -> list[bytes]:
        """The first keys, at most so many, that the client is asked for according to the last checkpoint."""
        sql = "SELECT key FROM missing WHERE client=? ORDER BY key LIMIT ?"
        return [row[0] for row in self._db.connection.execute(sql, (self._client, most))]

    def unreached(self) -> list[bytes]:
        """Data blobs, by key, that are delivered but that no committed version reaches; sorted."""
        rows = self._db.connection.execute(
            "SELECT key FROM possession INDEXED BY unreached WHERE client=? AND reached=0", (self._client,)
        )
        keys = {row[0] for row in rows}
        for key, reached in self._possessed.items():
            if reached:
                keys.discard(key)
            else:
                keys.add(key)
        # A blob already reached stays so: delivered twice, it must not be pinned again.
        return sorted(key for key in keys if key[0] == BlobType.DATA and not self._was_reached(key))

    def _was_reached(self, key: bytes) -> bool:
        row = self._db.connection.execute(
            "SELECT reached FROM possession WHERE client=? AND key=?", (self._client, key)
        ).fetchone()
        return bool(row and row[0]) and key not in self._missing

    # --- trees of unfinished versions ---

    def hold(self, tree: Payload) -> None:
        """Keep a tree whose payload decodes without any other blob. A plain one is kept compressed."""
        from cdr_plugin.top.held_trees import packed  # not for 'cdr status': it needs zstandard

        self._held[tree.id] = packed(tree)
        self._released.discard(tree.id)

    def held(self, id_: bytes) -> Payload | None:
        from cdr_plugin.top.held_trees import as_it_came

        if id_ in self._released:
            return None
        if id_ in self._held:
            return as_it_came(self._held[id_])
        row = self._db.connection.execute(
            "SELECT method, length, data FROM held_trees WHERE client=? AND id=?", (self._client, id_)
        ).fetchone()
        return as_it_came(Payload(BlobType.TREE, BlobId(id_), *row)) if row else None

    def holds(self, id_: bytes) -> bool:
        """Whether ``held`` would find the tree."""
        if id_ in self._released or id_ in self._held:
            return id_ in self._held
        row = self._db.connection.execute(
            "SELECT 1 FROM held_trees WHERE client=? AND id=?", (self._client, id_)
        ).fetchone()
        return row is not None

    def release(self, ids: Iterable[bytes]) -> None:
        """The repository has these trees now."""
        for id_ in ids:
            self._held.pop(id_, None)
            self._released.add(id_)

    # --- what came of versions that did not become whole ---

    @property
    def is_arriving(self) -> bool:
        """Has something come behind the last version record, by the last checkpoint? What a record follows was of it,
        or of versions before it; more may be on its way of what nothing follows yet."""
        row = self._db.connection.execute("SELECT value FROM meta WHERE key=?", (self._arriving_fact,)).fetchone()
        return row is None or row[0] == b"1"

    @property
    def _arriving_fact(self) -> str:
        return f"arriving:{self._client}"

    def has_unreached(self) -> bool:
        """Is there a blob or a tree that no committed version reaches, by the last checkpoint?"""
        sql = "SELECT 1 FROM possession INDEXED BY unreached WHERE client=? AND reached=0 LIMIT 1"
        return self._db.connection.execute(sql, (self._client,)).fetchone() is not None

    def abandon(self) -> None:
        """What no committed version reaches counts as never delivered. Durable on return."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM possession WHERE client=? AND reached=0", (self._client,))

    def abandon_trees(self) -> int:
        """Hold no tree any more; how many there were. Durable on return."""
        with self._db.transaction() as db:
            return db.execute("DELETE FROM held_trees WHERE client=?", (self._client,)).rowcount

    # --- versions ---

    def versions(self) -> list[VersionRow]:
        """All that arrived, by number."""
        rows = self._db.connection.execute(
            f"SELECT {_VERSION_COLUMNS} FROM versions WHERE client=?", (self._client,)
        )
        found = {(row[0], row[3]): _version_row(row) for row in rows}
        found.update(self._versions)
        return sorted(found.values(), key=lambda row: (row.number, row.hash))

    def put_version(self, row: VersionRow) -> None:
        self._versions[row.number, row.hash] = row

    def add_version(self, row: VersionRow) -> None:
        """A record that came now: what the client delivered before is of this version, or of earlier ones."""
        self.put_version(row)
        self._arriving = False

    def settle(self, row: VersionRow, state: VersionState, *, snapshot: str = "", reason: str = "") -> None:
        place = row.place
        if state is not VersionState.PENDING and not place:
            place = self._last_place = self._newest_place() + 1
        self.put_version(replace(row, state=state, snapshot=snapshot, reason=reason, place=place))

    def _newest_place(self) -> int:
        sql = "SELECT COALESCE(MAX(place), 0) FROM versions WHERE client=?"
        return max(self._last_place, int(self._db.connection.execute(sql, (self._client,)).fetchone()[0]))

    # --- durability ---

    def checkpoint(self) -> None:
        """Write the pass's rows in one transaction; the caller has flushed the repository."""
        client = self._client
        with self._db.transaction() as db:
            db.executemany("DELETE FROM possession WHERE client=? AND key=?", [(client, key) for key in self._missing])
            if self._absolves:
                db.execute("DELETE FROM missing WHERE client=?", (client,))
            db.executemany("INSERT OR IGNORE INTO missing VALUES (?, ?)", [(client, key) for key in self._missing])
            db.executemany("DELETE FROM missing WHERE client=? AND key=?", [(client, key) for key in self._found])
            db.executemany(
                "INSERT INTO possession VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET reached=MAX(reached, excluded.reached)",
                sorted((client, key, reached) for key, reached in self._possessed.items()),
            )
            db.executemany(
                "INSERT OR REPLACE INTO held_trees VALUES (?, ?, ?, ?, ?)",
                [(client, tree.id, tree.method, tree.length, tree.data) for tree in self._held.values()],
            )
            db.executemany("DELETE FROM held_trees WHERE client=? AND id=?", [(client, id_) for id_ in self._released])
            db.executemany(
                "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, ?)",
                [(client, parcel, *segment) for parcel, found in self._taken.items() for segment in found.values()],
            )
            db.executemany(
                "INSERT OR REPLACE INTO versions VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                [(client, *_version_fields(v)) for v in self._versions.values()],
            )
            if self._arriving is not None:
                fact = (self._arriving_fact, b"%d" % self._arriving)
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", fact)
        self._clear()

    def _clear(self) -> None:
        for pending in (self._possessed, self._held, self._taken, self._versions):
            pending.clear()
        for names in (self._released, self._missing, self._found):
            names.clear()
        self._absolves = False
        self._arriving = None

    def is_new(self) -> bool:
        """Nothing is known of the client: the first contact, or the state was lost."""
        for table in ("possession", "versions", "taken"):
            if self._db.connection.execute(
                f"SELECT 1 FROM {table} WHERE client=? LIMIT 1",
                (self._client,),
            ).fetchone():
                return False
        return True


_VERSION_COLUMNS = "number, record, signature, hash, previous, state, time, snapshot, reason, place"
_Fields = tuple[int, bytes, bytes, bytes, bytes, str, str, str, str, int]


def _version_fields(row: VersionRow) -> _Fields:
    return (
        row.number, row.record, row.signature, row.hash, row.previous,
        row.state, row.time, row.snapshot, row.reason, row.place,
    )  # fmt: skip


def _version_row(row: Sequence[Any]) -> VersionRow:
    number, record, signature, hash_, previous, state, time, snapshot, reason, place = row
    return VersionRow(
        number, record, signature, hash_, previous, VersionState(state), time, snapshot, reason, place
    )


def data_ids(keys: Sequence[bytes]) -> list[BlobId]:
    return [BlobId(key[1:]) for key in keys if key[0] == BlobType.DATA]
