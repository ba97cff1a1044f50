"""What care has found and done in one group of the top tier: which versions are verified, which part of the
packs is read next, when a check and a forget were last done.

A database of its own, ``care/state.db`` in the group's state folder: losing it costs what it says, and the next
check says it again. See docs/design/care.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.verified_list import VerifiedVersion
from cdr_plugin.tier_state import TierState
from cdr_plugin.top.check_parts import Part

_VERSION = 1
_SCHEMA = """
CREATE TABLE verified (
    client BLOB NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, time_s INTEGER NOT NULL,
    PRIMARY KEY (client, number, hash)) WITHOUT ROWID;
CREATE TABLE parts (number INTEGER PRIMARY KEY, time_s INTEGER NOT NULL);
CREATE TABLE damaged (key BLOB PRIMARY KEY) WITHOUT ROWID
"""
_MAX_DAMAGED = 10_000
"""Blobs that the next check looks at again, one by one."""
_CHECK, _FORGET, _PRUNE = "check", "forget", "prune"
_FOLDER = "care"

VersionKey = tuple[bytes, int, bytes]
"""A version: the first 16 bytes of its client's ID, its number, its record's hash."""


@dataclass(frozen=True, slots=True)
class CheckNote:
    """The last check that came to its end. Times in seconds since 1970; ``errors``: how many things were wrong,
    ``problem`` the first of them. ``part`` of ``parts`` was read, 0 of 0 where nothing rotates."""

    began_s: float
    ended_s: float
    errors: int
    problem: str
    part: int
    parts: int
    packs_read: int
    bytes_read: int
    files_read: int
    versions: int

    @property
    def rotation(self) -> Part | None:
        return Part(self.part, self.parts) if self.parts else None


@dataclass(frozen=True, slots=True)
class ForgetNote:
    """The last forget that came to its end."""

    began_s: float
    ended_s: float
    removed: int
    kept: int
    bytes_freed: int


class CareState(TierState):
    """The care database of one group. To be closed."""

    def __init__(self, state_folder: Path) -> None:
        """``state_folder``: that of the group's state."""
        super().__init__(state_folder / _FOLDER, _SCHEMA, _VERSION)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def exists(state_folder: Path) -> bool:
        """Has any care been done? Asking makes nothing."""
        return (state_folder / _FOLDER / "state.db").exists()

    # --- checks ---

    def last_check(self) -> CheckNote | None:
        found = self._note(_CHECK)
        return CheckNote(**found) if found else None

    def note_check(
        self,
        note: CheckNote,
        verified: Collection[VersionKey],
        lost: Collection[VersionKey],
        damaged: Collection[tuple[BlobType, BlobId]],
    ) -> None:
        """A check has come to its end: one transaction. ``verified``: what it covered without finding damage;
        ``lost``: what is not verified any more; ``damaged``: blobs that could not be read."""
        keys = sorted(bytes((type_,)) + id_ for type_, id_ in damaged)[:_MAX_DAMAGED]
        time_s = int(note.ended_s)
        before = self.last_check()
        with self._db.transaction() as db:
            db.executemany("DELETE FROM verified WHERE client=? AND number=? AND hash=?", lost)
            db.executemany("INSERT OR REPLACE INTO verified VALUES (?, ?, ?, ?)", [(*key, time_s) for key in verified])
            if before is None or before.parts != note.parts:
                db.execute("DELETE FROM parts")  # the packs are cut otherwise now
            if note.parts and not note.errors:
                db.execute("INSERT OR REPLACE INTO parts VALUES (?, ?)", (note.part, int(note.began_s)))
            elif note.parts:
                db.execute("DELETE FROM parts WHERE number=?", (note.part,))
            db.execute("DELETE FROM damaged")
            db.executemany("INSERT INTO damaged VALUES (?)", [(key,) for key in keys])
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_CHECK, _encoded(asdict(note))))

    def damaged(self) -> list[tuple[BlobType, BlobId]]:
        """Blobs that the last check could not read, the first ten thousand."""
        rows = self._db.connection.execute("SELECT key FROM damaged ORDER BY key")
        return [(BlobType(key[0]), BlobId(key[1:])) for (key,) in rows]

    def all_read_since_s(self) -> int | None:
        """Since when every part of the packs has been read without finding damage; None before the first round
        is complete."""
        note = self.last_check()
        if note is None or not note.parts:
            return None
        count, oldest = self._db.connection.execute("SELECT COUNT(*), MIN(time_s) FROM parts").fetchone()
        return int(oldest) if count == note.parts else None

    def verified(self) -> dict[VersionKey, int]:
        """When each version was last covered by a check that found no damage in it."""
        rows = self._db.connection.execute("SELECT client, number, hash, time_s FROM verified")
        return {(client, number, hash_): time_s for client, number, hash_, time_s in rows}

    def verified_of(self, client: bytes) -> list[VerifiedVersion]:
        """Those of one client (its fingerprint), ascending."""
        rows = self._db.connection.execute(
            "SELECT number, hash, time_s FROM verified WHERE client=? ORDER BY number, hash", (client[:16],)
        )
        return [VerifiedVersion(*row) for row in rows]

    @property
    def edition(self) -> bytes:
        """Another one whenever something else may be verified than before."""
        return sha256(self.get(_CHECK) or b"").digest()

    # --- forget ---

    def last_forget(self) -> ForgetNote | None:
        found = self._note(_FORGET)
        return ForgetNote(**found) if found else None

    def note_forget(self, note: ForgetNote) -> None:
        """A forget has come to its end, with its prune if it was to have one."""
        with self._db.transaction() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_FORGET, _encoded(asdict(note))))
            db.execute("DELETE FROM meta WHERE key=?", (_PRUNE,))

    @property
    def owes_prune(self) -> bool:
        """Were versions removed, or about to be, for which no prune has come to its end?"""
        return self.get(_PRUNE) is not None

    def owe_prune(self) -> None:
        self.put({_PRUNE: b"1"})

    def _note(self, name: str) -> dict[str, Any] | None:
        data = self.get(name)
        if data is None:
            return None
        try:
            found: Mapping[str, Any] = json.loads(data)
        except ValueError as error:
            raise FormatError(f"{self.folder}: not the notes of care ({error}); move the folder away") from None
        return dict(found)


def _encoded(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields).encode()
