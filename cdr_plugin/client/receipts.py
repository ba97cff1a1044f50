"""Reading what the tiers above answered, and acting on it.

A receipt may free spooled segments, send some of them out again, or strike blobs from the known
ones. It is signed by the tier that the ticket names, sealed to this client, and its serial rises.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from cdr_plugin.client.answer_reading import read_answer
from cdr_plugin.client.room import free_files, remove_files
from cdr_plugin.client.state import ClientState, SegmentRow, blob_key
from cdr_plugin.client.states import SegmentEvent, SegmentState, VersionState
from cdr_plugin.client.tier import OLDER_KEYS_UNTIL, RESEAL, ClientTier
from cdr_plugin.client.tier_keys import tier_signer
from cdr_plugin.contracts import Transport
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.receipt import ParcelReceipt, Receipt, RejectedSegment, VersionReceipt, read_receipt
from cdr_plugin.parcel.receipt import VersionState as Answered
from cdr_plugin.parcel.segment import segment_label
from cdr_plugin.reporter import Reporter

_STATES = {
    Answered.STORED: VersionState.STORED,
    Answered.COMMITTED: VersionState.COMMITTED,
    Answered.INCOMPLETE: VersionState.INCOMPLETE,
    Answered.REJECTED: VersionState.REJECTED,
}


def read_receipt_in(client: ClientTier, storage: Transport, folder: str, reporter: Reporter) -> Receipt | None:
    """The receipt in a storage, when it is newer than the last one that was acted on; else None."""
    name = answer_name(folder, Answer.RECEIPT)
    receipt = read_answer(client, storage, name, read_receipt, tier_signer, reporter)
    if receipt is None:
        return None
    return receipt if receipt.serial > int(client.state.get("receipt_serial") or b"0") else None


def apply_receipt(client: ClientTier, receipt: Receipt, reporter: Reporter) -> None:
    """Bring the state up to what ``receipt`` says. Idempotent: the serial is noted last.

    Segments come before blobs: a blob is on its way, and not missing, until its segment has been taken.
    """
    state = client.state
    rows = _rows(state)
    for parcel in receipt.parcels:
        _apply_parcel(client, parcel, rows.get(parcel.id, {}), reporter)
    _apply_missing(client, receipt, reporter)
    for version in receipt.versions:
        _apply_version(state, version, reporter)
    _release(client)
    state.put({"receipt_serial": str(receipt.serial), "receipt_time": str(int(time.time()))})


def _apply_missing(client: ClientTier, receipt: Receipt, reporter: Reporter) -> None:
    keys = {blob_key(BlobType(type_), BlobId(id_)) for type_, id_ in receipt.missing}
    if keys and (count := client.state.wanted.want(keys)):
        reporter.note(f"{client.name}: {count} blobs are missing above; they are sent again")
    client.state.wanted.forget_lost(keys)


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


def _apply_parcel(
    client: ClientTier, parcel: ParcelReceipt, rows: Mapping[int, SegmentRow], reporter: Reporter
) -> None:
    state = client.state
    rejected = {bad.index: bad for bad in parcel.rejected}
    again = rejected.keys() | set(parcel.missing)
    for index in sorted(again & rows.keys()):
        _send_again(state, rows[index], rejected.get(index), reporter)
    # What is missing lies before something that was taken. Behind a segment that is lost for good ``taken`` does
    # not rise any more, and what arrived before it would count as on its way for ever.
    arrived = max(parcel.taken, *parcel.missing, 0)
    taken = [row for index, row in rows.items() if index < arrived and index not in again]
    state.advance(taken, SegmentEvent.TAKE)
    if client.release == "stored":
        free_files(client, taken)


def _send_again(state: ClientState, row: SegmentRow, rejected: RejectedSegment | None, reporter: Reporter) -> None:
    """Return a segment to the queue. Where its bytes are gone, or the receiver had the very object and refuses
    what is in it, what it held is sent anew."""
    name = segment_label(row.parcel_id, row.index)
    reason = rejected.reason if rejected else "it did not arrive"
    if row.held and row.parcel_ord <= int(state.get(OLDER_KEYS_UNTIL) or b"0") and rejected is not None:
        reporter.error(name, "send", f"{reason}; it may be sealed to an older key, and is sealed anew")
        state.advance([row], SegmentEvent.RETURN)
        state.put({RESEAL: "1"})
    elif row.held and not (rejected is not None and rejected.object == row.sha256):
        reporter.error(name, "send", f"{reason}; it is sent again")
        state.advance([row], SegmentEvent.RETURN)
    else:
        reporter.error(name, "send", f"{reason}; what it held is sent anew")
        state.lose(row)


def _rows(state: ClientState) -> dict[bytes, dict[int, SegmentRow]]:
    """Segments that a receipt may speak of, by parcel and index."""
    found: dict[bytes, dict[int, SegmentRow]] = {}
    for row in state.segments(SegmentState.SPOOLED, SegmentState.SENT, SegmentState.TAKEN):
        found.setdefault(row.parcel_id, {})[row.index] = row
    return found


def _release(client: ClientTier) -> None:
    """Free what no version needs any more: parcels up to that of our newest committed version, and answers
    before what was made since. The newest that the receipt names may be of another machine with our identity."""
    state = client.state
    committed = [row.number for row in state.versions() if row.state is VersionState.COMMITTED]
    last = max(map(state.parcel_of_version, committed), default=0)
    done = state.holdings.needed_until(last) if last else []
    state.advance(done, SegmentEvent.RELEASE)
    remove_files(client, done)
