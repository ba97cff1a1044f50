"""SQLite as every tier uses it for its state: durable transactions, one connection per user."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdr_plugin.errors import (
    CdrError,
    FormatError,
    NotConvenientError,
    RemoteError,
    StorageFullError,
    UnknownVersionError,
)
from cdr_plugin.files import storage_error

_DISK = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_ROOM_BYTES = 1 << 20
"""What opening a database may need: its log and the memory map beside it."""


class Database:
    """A SQLite file with a schema version. Not for use by several threads at once.

    WAL and ``synchronous=FULL``: a committed transaction survives a power cut, and readers of other
    processes are never blocked for longer than a commit.
    """

    def __init__(self, path: Path, schema: str, version: int, indexes: str = "") -> None:
        """``indexes``: statements that may be repeated (IF NOT EXISTS). What is only faster with them needs no version
        of its own: a program that does not know them keeps them up as well."""
        self._path = path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        except OSError as error:
            raise storage_error(path, error) from error
        except sqlite3.DatabaseError as error:
            raise self._translated(error) or RemoteError(f"{path}: {error}") from error
        try:
            self._prepare(schema, version, indexes)
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise self._translated(error) or self._unusable(error) from error

    def _prepare(self, schema: str, version: int, indexes: str) -> None:
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=FULL")
        with self.transaction():
            found = self.connection.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                for statement in schema.split(";"):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version={version}")
            for statement in indexes.split(";") if found in (0, version) else ():
                self.connection.execute(statement)
        if found not in (0, version):
            raise UnknownVersionError(
                f"{self._path}: state of version {found}, this program knows {version}; upgrade CDR"
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable when the block has ended; StorageFullError when there is no room,
        NotConvenientError when another process has been writing for a minute."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            translated = self._translated(error) if isinstance(error, sqlite3.DatabaseError) else None
            if translated is not None:
                raise translated from error
            raise

    def _translated(self, error: sqlite3.DatabaseError) -> CdrError | None:
        """None for what neither the disk nor another process is to blame for."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest is a finer reason
        if code == sqlite3.SQLITE_FULL or (code in _DISK and self._is_full()):
            return StorageFullError(f"{self._path}: no space left on the device; make room and run the command again")
        if code in _DISK:
            return RemoteError(f"{self._path}: {error}; check the disk and its permissions")
        if code == sqlite3.SQLITE_BUSY:
            return NotConvenientError(f"{self._path}: another process is writing to it; try again later")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._unusable(error)
        return None

    def _unusable(self, error: sqlite3.DatabaseError) -> FormatError:
        return FormatError(f"{self._path}: not a usable state database ({error}); move it away to start anew")

    def _is_full(self) -> bool:
        # SQLite says "disk I/O error" when the memory map beside the database cannot grow.
        try:
            status = os.statvfs(self._path.parent)
        except OSError:
            return False
        return status.f_bavail * status.f_frsize < _ROOM_BYTES

    def close(self) -> None:
        self.connection.close()
