"""Unknown senders: of each, one header or request that proves whose folder it is; the rest stays in the inbox.

Nobody can keep strangers from coming, so their number is bounded, and whose folder is gone is forgotten.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.identity.keys import KemSuite, SealingPublicKey, VerifyKey, short

MAX_STRANGERS = 256
"""Of one group: who is to look at more of them one by one? A row has 2 KB."""

_COLUMNS = "grp, folder, verify_key, why, name, suite, sealing_key, facts, ticket, first_s, segments, bytes"
_Transaction = Callable[[], AbstractContextManager[sqlite3.Connection]]


@dataclass(frozen=True, slots=True)
class Stranger:
    """A sender that the register does not know. ``key`` has signed what lies in ``folder``. ``name``, ``facts`` and
    ``sealing`` are what its request says, ``ticket`` the ID of the one that it names: empty without a request.
    ``why``: it was not let in; ``segments`` and ``bytes`` of it lie in the inboxes; ``first_s``: seen first, in
    seconds since 1970."""

    group: str
    folder: str
    key: VerifyKey
    why: str
    name: str = ""
    sealing: SealingPublicKey | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    ticket: bytes = b""
    first_s: int = 0
    segments: int = 0
    bytes: int = 0

    def sealing_key(self) -> SealingPublicKey:
        """UserError when no request has brought it."""
        if self.sealing is None:
            raise UserError(
                f"sender {short(self.key.fingerprint)}: its request to be known has not come, without which nothing "
                "can be answered to it; run 'cdr enroll' and 'cdr send' there, then 'cdr receive' here"
            )
        return self.sealing


class Strangers:
    """The register's table of them."""

    def __init__(self, reading: _Transaction, changing: _Transaction) -> None:
        self._reading = reading
        self._changing = changing

    def all(self, group: str) -> list[Stranger]:
        """Those of a group, who came first first."""
        with self._reading() as db:
            rows = db.execute(f"SELECT {_COLUMNS} FROM strangers WHERE grp = ? ORDER BY first_s, folder", (group,))
            return [_stranger(row) for row in rows]

    def put(self, stranger: Stranger, header: bytes = b"") -> bool:
        """Keep one, and ``header``, the bytes that prove it; a request takes the place of a mere header. False when
        there are too many."""
        sealing = stranger.sealing
        row = (
            stranger.group,
            stranger.folder,
            stranger.key.raw,
            header,
            stranger.why,
            stranger.name,
            int(sealing.suite) if sealing else 0,
            sealing.raw if sealing else b"",
            json.dumps(dict(stranger.facts), sort_keys=True),
            stranger.ticket,
            stranger.first_s,
            stranger.segments,
            stranger.bytes,
        )
        with self._reading() as db:
            known = db.execute(
                "SELECT first_s, sealing_key, why, ticket FROM strangers WHERE grp = ? AND folder = ?", row[:2]
            ).fetchone()
            (count,) = db.execute("SELECT COUNT(*) FROM strangers WHERE grp = ?", (stranger.group,)).fetchone()
        if known is None and count >= MAX_STRANGERS:
            return False
        if known is None or not (known[1] and (sealing is None or known[1:] == (row[7], row[4], row[9]))):
            row = row if known is None else (*row[:10], known[0], *row[11:])
            with self._changing() as db:
                db.execute(f"INSERT OR REPLACE INTO strangers VALUES ({', '.join('?' * len(row))})", row)
        return True

    def saw(self, group: str, present: Mapping[str, tuple[int, int]], *, is_all: bool) -> None:
        """Segments and bytes by folder, as all inboxes have them now; who has nothing there is forgotten, if that
        ``is_all`` there is."""
        with self._changing() as db:
            known = [row[0] for row in db.execute("SELECT folder FROM strangers WHERE grp = ?", (group,))]
            for folder in known:
                if folder in present:
                    db.execute(
                        "UPDATE strangers SET segments = ?, bytes = ? WHERE grp = ? AND folder = ?",
                        (*present[folder], group, folder),
                    )
                elif is_all:
                    db.execute("DELETE FROM strangers WHERE grp = ? AND folder = ?", (group, folder))

    def forget(self, stranger: Stranger) -> None:
        with self._changing() as db:
            forget_stranger(db, stranger)


def forget_stranger(db: sqlite3.Connection, stranger: Stranger) -> None:
    """Within a transaction of the register."""
    db.execute("DELETE FROM strangers WHERE grp = ? AND folder = ?", (stranger.group, stranger.folder))


_Row = tuple[str, str, bytes, str, str, int, bytes, str, bytes, int, int, int]


def _stranger(row: _Row) -> Stranger:
    group, folder, key, why, name, suite, sealing, facts, ticket, first_s, segments, size = row
    try:
        sealing_key = SealingPublicKey(KemSuite(suite), sealing) if sealing else None
        return Stranger(
            group, folder, VerifyKey(key), why, name, sealing_key, json.loads(facts), ticket, first_s, segments, size
        )
    except ValueError as error:
        raise FormatError(f"register: the entry of the unknown sender {folder} is damaged: {error}") from None
