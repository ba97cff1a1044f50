"""SQLite as every tier uses it for its state: durable transactions, one connection per user."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdr_plugin.errors import FormatError, StorageFullError, UnknownVersionError


class Database:
    """A SQLite file with a schema version. Not for use by several threads at once.

    WAL and ``synchronous=FULL``: a committed transaction survives a power cut, and readers of other
    processes are never blocked for longer than a commit.
    """

    def __init__(self, path: Path, schema: str, version: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self.connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(schema, version)
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise FormatError(f"{path}: not a usable state database ({error}); move it away to start anew") from error

    def _prepare(self, schema: str, version: int) -> None:
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        with self.transaction():
            found = self.connection.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                for statement in schema.split(";"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version={version}")
        if found not in (0, version):
            raise UnknownVersionError(
                f"{self._path}: state of version {found}, this program knows {version}; upgrade CDR"
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when the block has ended; StorageFullError when there is no room."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                raise StorageFullError(f"{self._path}: {error}; make room and run the command again") from error
            raise

    def close(self) -> None:
        self.connection.close()
