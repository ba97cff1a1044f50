"""What a standing changes in the client's state: one transaction, its serial in it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from sqlite3 import Connection
from typing import TYPE_CHECKING

from cdr_plugin.client.rows import cut_keys
from cdr_plugin.client.states import SegmentState, VersionState
from cdr_plugin.client.wanted import COUNT_GENERATION
from cdr_plugin.database import Database

if TYPE_CHECKING:
    from cdr_plugin.client.state import VersionRow

NO_PARCEL = 0
"""Of a version that another machine, or one before us, has sent: nothing of ours is released by it."""


def follow(db: Connection, newest: VersionRow) -> None:
    """Our next version follows this one, of which nothing but what the top tier said is here."""
    db.execute(
        "INSERT OR IGNORE INTO versions (number, parcel, record, signature, hash, tree, time, state, snapshot) "
        "VALUES (?,?,x'',x'',?,?,?,?,?)",
        (newest.number, NO_PARCEL, newest.hash, newest.tree, newest.time, newest.state, newest.snapshot),
    )


class StandingRows:
    """The part of the client's state that a standing speaks of."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def apply(
        self,
        facts: Mapping[str, bytes],
        *,
        strike: bool,
        keep: Container[bytes] | None = None,
        newest: VersionRow | None = None,
    ) -> int:
        """Take in a standing; how many blobs are not known any more.

        With ``strike``, those that were released with what is committed, unless their key is in ``keep``: what the
        newest catalog names, which serves on. Without that, catalogs are void.
        ``newest``: what the next version follows, only under the lock of the one writer. ``facts`` are noted
        in the same transaction.
        """
        with self._db.transaction() as db:
            struck = _strike(db, keep or ()) if strike else 0
            if struck and keep is None:
                db.execute(COUNT_GENERATION)
            if newest is not None:
                follow(db, newest)
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", facts.items())
        return struck


def _strike(db: Connection, keep: Container[bytes]) -> int:
    """Segments behind the newest committed version are on their way, and what they name is known.

    What an adoption gave counts as released with what was committed before it.
    """
    last = db.execute("SELECT MAX(parcel) FROM versions WHERE state=?", (VersionState.COMMITTED,)).fetchone()[0]
    places = db.execute(
        "SELECT s.parcel, s.idx FROM segments s JOIN parcels p ON p.ord=s.parcel "
        "WHERE s.state=? AND (s.parcel<=? OR p.secret=x'') AND s.keys!=x''",
        (SegmentState.RELEASED, last or NO_PARCEL),
    ).fetchall()
    struck = 0
    for place in places:
        cut = cut_keys(db.execute("SELECT keys FROM segments WHERE parcel=? AND idx=?", place).fetchone()[0])
        kept = [key for key in cut if key in keep]
        if len(kept) < len(cut):
            db.execute("UPDATE segments SET keys=? WHERE parcel=? AND idx=?", (b"".join(kept), *place))
            struck += len(cut) - len(kept)
    return struck
