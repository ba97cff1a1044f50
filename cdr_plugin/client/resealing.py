"""Sealing anew what waits, after the tier above lost its keys and a new ticket has others, or dropped an older key.

What was sealed before can be opened by nobody above, but here: the client keeps the keys of its own parcels. Each
parcel that has something on its way gets a new ID and key, and its segments hold the same records as before:
versions whose files have changed since are not lost. What rests on recipes alone is asked for by the tier above.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import groupby

from cdr_plugin.client.room import remove_files
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.state import SegmentRow
from cdr_plugin.client.states import SegmentState
from cdr_plugin.client.tier import OLDER_KEYS_UNTIL, RESEAL, ClientTier
from cdr_plugin.errors import IntegrityError, NotConvenientError
from cdr_plugin.files import exclusive, write_durably
from cdr_plugin.parcel.segment import Parcel, ParcelSecret, reopen_own_segment
from cdr_plugin.reporter import Reporter


def reseal_waiting(client: ClientTier, reporter: Reporter) -> None:
    """Under ``send.lock``. A parcel changes in one transaction, so a run that was killed goes on with the next; its
    files are swept. While a backup is running, which seals to what it found, all of it waits for the next time."""
    if not client.state.get(RESEAL):
        return
    try:
        with exclusive(client.writing_lock, f"writing of {client.name}"):
            _reseal_all(client, reporter)
            client.state.put({RESEAL: "", OLDER_KEYS_UNTIL: ""})
    except NotConvenientError as error:
        reporter.note(f"{client.name}: {error}; what waits is sealed anew later")


def _reseal_all(client: ClientTier, reporter: Reporter) -> None:
    rows = client.state.segments(SegmentState.SPOOLED, SegmentState.SENT, SegmentState.TAKEN)
    count = 0
    for parcel, found in groupby(rows, key=lambda row: row.parcel_ord):
        of_parcel = list(found)
        if any(row.held and row.state is not SegmentState.TAKEN for row in of_parcel):
            count += _reseal_parcel(client, parcel, [row for row in of_parcel if row.held])
    if count:
        reporter.note(f"{client.name}: {count} segments are sealed anew, for the tier above that the ticket names")


def _reseal_parcel(client: ClientTier, ord_: int, rows: list[SegmentRow]) -> int:
    """How many segments; one that is damaged stays as it is, and is noticed when it is to be sent."""
    old = ParcelSecret.from_bytes(client.state.secret_of(ord_))
    new = Parcel.new(client.identity.signing, client.ticket.group, client.ticket.sealing)
    sealed: list[tuple[SegmentRow, int, bytes]] = []
    for row in rows:
        try:
            plaintext = reopen_own_segment(spool_path(client.spool, old.id, row.index).read_bytes(), old, row.index)
        except (OSError, IntegrityError):
            continue
        data = new.seal(row.index, plaintext)
        write_durably(spool_path(client.spool, new.id, row.index), data)
        sealed.append((row, len(data), sha256(data).digest()))
    client.state.reseal(ord_, new.id, new.secret.to_bytes(), sealed)
    remove_files(client, [row for row, _, _ in sealed])
    return len(sealed)
