"""What every tier's state database has: facts by name, and serials for signed documents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from cdr_plugin.database import Database

_FACTS = "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"


class TierState:
    """A ``state.db`` in the folder of one tier. One thread at a time; several processes may have it open."""

    def __init__(self, folder: Path, schema: str, version: int, indexes: str = "") -> None:
        self.folder = folder
        self._db = Database(folder / "state.db", _FACTS + schema, version, indexes)

    def close(self) -> None:
        self._db.close()

    def get(self, key: str) -> bytes | None:
        """A fact, or None when it was never put."""
        row = self._db.connection.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return row[0] if row else None

    def facts(self, prefix: str) -> dict[str, bytes]:
        """Those whose names begin so, by the rest of the name: one query, however many there are."""
        rows = self._db.connection.execute(
            "SELECT substr(key, ?), value FROM meta WHERE key>=? AND key<?",
            (len(prefix) + 1, prefix, prefix + chr(0x10FFFF)),
        )
        return dict(rows)

    def put(self, facts: Mapping[str, bytes | str]) -> None:
        """Remember facts in one transaction; text is stored as UTF-8."""
        rows = [(key, value.encode() if isinstance(value, str) else value) for key, value in facts.items()]
        with self._db.transaction() as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def next_serial(self, name: str) -> int:
        """Rises forever, also when this state is lost: readers refuse what is lower than they saw."""
        with self._db.transaction() as db:
            row = db.execute("SELECT value FROM meta WHERE key=?", (f"serial:{name}",)).fetchone()
            serial = max(int(row[0]) + 1 if row else 1, time.time_ns() // 1000)
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"serial:{name}", str(serial).encode()))
        return serial
