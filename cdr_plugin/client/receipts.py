"""Reading what the tiers above answered, and acting on it.

A receipt may free spooled segments, send some of them out again, or strike blobs from the known
ones. It is signed by the tier that the ticket names, sealed to this client, and its serial rises.
"""

from __future__ import annotations

import time

from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.state import ClientState, SegmentRow, blob_key
from cdr_plugin.client.states import SegmentEvent, SegmentState, VersionState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.receipt import ParcelReceipt, Receipt, RejectedSegment, VersionReceipt, read_receipt
from cdr_plugin.parcel.receipt import VersionState as Answered
from cdr_plugin.reporter import Reporter

_STATES = {
    Answered.STORED: VersionState.STORED,
    Answered.COMMITTED: VersionState.COMMITTED,
    Answered.INCOMPLETE: VersionState.IN_TRANSIT,
    Answered.REJECTED: VersionState.REJECTED,
}


def read_receipts(client: ClientTier, storage: Transport, folder: str, reporter: Reporter) -> Receipt | None:
    """The newest receipt, when it is newer than the last one that was acted on; else None."""
    name = answer_name(folder, Answer.RECEIPT)
    try:
        data = storage.get(name, 0, MAX_DOCUMENT_BYTES + 1)
    except NotFoundError:
        return None
    last = int(client.state.get("receipt_serial") or b"0")
    try:
        receipt = _open(client, data)
    except IntegrityError as error:
        reporter.error(name, "receive", f"{error}; ignored")
        return None
    if receipt.serial <= last:
        return None
    apply_receipt(client, receipt, reporter)
    return receipt


def _open(client: ClientTier, data: bytes) -> Receipt:
    ticket = client.ticket
    return read_receipt(
        data,
        keys=client.identity.sealing_keys(ticket.group),
        tier=ticket.issuer,
        client=client.identity.signing.public,
        group=ticket.group,
        now_s=time.time(),
    )


def apply_receipt(client: ClientTier, receipt: Receipt, reporter: Reporter) -> None:
    """Bring the state up to what ``receipt`` says. Idempotent: the serial is noted last."""
    state = client.state
    if receipt.missing:
        keys = {blob_key(BlobType(type_), BlobId(id_)) for type_, id_ in receipt.missing}
        state.forget_blobs(keys)
        reporter.note(f"{client.name}: {len(keys)} blobs are missing above; the next backup sends them again")
    for parcel in receipt.parcels:
        _apply_parcel(state, parcel, reporter)
    for version in receipt.versions:
        _apply_version(state, version, reporter)
    _release(client, receipt)
    state.put({"receipt_serial": str(receipt.serial), "receipt_time": str(int(time.time()))})


def _apply_version(state: ClientState, version: VersionReceipt, reporter: Reporter) -> None:
    """Only what is said of our own record: another one of this number belongs to another history."""
    row = state.version(version.number)
    if row is None or row.hash != version.record:
        return
    waiting = version.state is Answered.STORED and bool(version.reason)
    new = VersionState.IN_TRANSIT if waiting else _STATES[version.state]
    if new is VersionState.REJECTED and row.state is not new:
        reporter.error(f"version {version.number}", "receive", f"rejected above: {version.reason}")
    state.set_version(version.number, new, version.snapshot, version.reason)


def _apply_parcel(state: ClientState, parcel: ParcelReceipt, reporter: Reporter) -> None:
    rejected = {bad.index: bad for bad in parcel.rejected}
    again = rejected.keys() | set(parcel.missing)
    rows = {row.index: row for row in _rows(state) if row.parcel_id == parcel.id}
    for index in sorted(again & rows.keys()):
        _send_again(state, rows[index], rejected.get(index), reporter)
    state.advance(
        [row for index, row in rows.items() if index < parcel.taken and index not in again], SegmentEvent.TAKE
    )


def _send_again(state: ClientState, row: SegmentRow, rejected: RejectedSegment | None, reporter: Reporter) -> None:
    """Return a segment to the queue, unless the receiver had the very object and refuses what is in
    it: then its blobs are made anew by the next version."""
    name = f"segment {row.parcel_id.hex()[:12]}/{row.index:08x}"
    if rejected is not None and rejected.object == row.sha256:
        reporter.error(name, "send", f"{rejected.reason}; the next backup reads its files again")
        state.lose(row)
        return
    reporter.error(name, "send", f"{rejected.reason if rejected else 'it did not arrive'}; it is sent again")
    state.advance([row], SegmentEvent.RETURN)


def _rows(state: ClientState) -> list[SegmentRow]:
    return state.segments(SegmentState.SPOOLED, SegmentState.SENT, SegmentState.TAKEN)


def _release(client: ClientTier, receipt: Receipt) -> None:
    """Free what no version needs any more: parcels up to that of the newest committed version."""
    newest = client.state.version(receipt.committed)
    if newest is None or newest.hash != receipt.committed_record:
        return
    last = client.state.parcel_of_version(newest.number)
    done = [row for row in client.state.segments(SegmentState.TAKEN) if row.parcel_ord <= last]
    for row in done:
        spool_path(client.spool, row.parcel_id, row.index).unlink(missing_ok=True)
    client.state.advance(done, SegmentEvent.RELEASE)
