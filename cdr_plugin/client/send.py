"""``cdr send`` of a client: segments go out in order, then the head; then receipts are read.

Needs no lock against ``cdr backup``: it sees a segment only once it is durable and recorded. Every
step can be repeated: putting the same sealed object twice changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cdr_plugin.client.baseline import take_baseline
from cdr_plugin.client.receipts import read_receipts
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.state import SegmentRow
from cdr_plugin.client.states import SegmentEvent, SegmentState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import IntegrityError, NotConvenientError, NotFoundError
from cdr_plugin.files import exclusive
from cdr_plugin.parcel.head import Head, HeadParcel, write_head
from cdr_plugin.parcel.naming import Answer, answer_name, enrolment_name, folder_id, head_name, segment_name
from cdr_plugin.reporter import Reporter

_HEAD_EVERY = 8  # segments; a reader beside us sees progress at the price of one small object


@dataclass(slots=True)
class SendResult:
    """What one run sent; ``waiting`` is what is left in the queue."""

    segments_sent: int = 0
    bytes_sent: int = 0
    segments_waiting: int = 0
    bytes_waiting: int = 0


def send(client: ClientTier, reporter: Reporter, sent: Callable[[SegmentRow], None] = lambda _row: None) -> SendResult:
    """Send all that is spooled, and take in what the tiers above answered.

    RemoteError when the storage fails: what was sent stays sent, the rest waits for the next run.
    ``sent`` is called for each segment that has become durable in the storage.
    """
    with (
        exclusive(client.state_folder / "send.lock", f"sending of {client.name}"),
        client.plugins.transport(client.to) as storage,
    ):
        return _Sender(client, storage, reporter, sent).run()


class _Sender:
    def __init__(
        self, client: ClientTier, storage: Transport, reporter: Reporter, sent: Callable[[SegmentRow], None]
    ) -> None:
        self._client = client
        self._state = client.state
        self._storage = storage
        self._reporter = reporter
        self._sent = sent
        self._folder = folder_id(client.identity.signing.public, client.ticket.group)
        self._result = SendResult()

    def run(self) -> SendResult:
        read_receipts(self._client, self._storage, self._folder, self._reporter)
        self._take_baseline()
        self._send_enrolment()
        self._send_segments()
        self._state.mark_in_transit()
        read_receipts(self._client, self._storage, self._folder, self._reporter)
        self._result.segments_waiting, self._result.bytes_waiting = self._state.queue()
        return self._result

    def _take_baseline(self) -> None:
        """What the operator let us adopt, if anything; what is wrong with it does not stop the sending."""
        try:
            taken = take_baseline(self._client, self._storage, self._folder, self._reporter)
        except NotFoundError:
            return
        except NotConvenientError as error:
            self._reporter.note(str(error))
        except IntegrityError as error:
            self._reporter.error(answer_name(self._folder, Answer.BASELINE), "receive", f"{error}; ignored")
        else:
            if taken is not None:
                self._reporter.note(f"{self._client.name}: {taken.text}")

    def _send_enrolment(self) -> None:
        """Until the first receipt shows that the tier knows us; the same request does no harm twice."""
        request = self._state.get("enrolment")
        if request is not None and self._state.get("receipt_serial") is None:
            # Over one that a broken storage may have torn: it would be refused for ever.
            self._storage.put(enrolment_name(self._folder, request), request, overwrite=True)

    def _send_segments(self) -> None:
        unannounced = 0
        for row in self._state.segments(SegmentState.SPOOLED):
            if self._send_one(row):
                unannounced += 1
            if unannounced >= _HEAD_EVERY:
                self._write_head()
                unannounced = 0
        if unannounced or self._head_is_stale():
            self._write_head()

    def _send_one(self, row: SegmentRow) -> bool:
        path = spool_path(self._client.spool, row.parcel_id, row.index)
        try:
            # A hard link in the storage would share tampering with the spool: hash before each put.
            intact = _sha256(path.read_bytes()) == row.sha256
        except FileNotFoundError:
            intact = False
        if not intact:
            self._lose(row)
            return False
        self._storage.put_file(segment_name(self._folder, row.parcel_id, row.index), path)
        self._state.advance([row], SegmentEvent.SEND)
        self._result.segments_sent += 1
        self._result.bytes_sent += row.size
        self._reporter.progress(segments_sent=self._result.segments_sent, bytes_sent=self._result.bytes_sent)
        self._sent(row)
        return True

    def _lose(self, row: SegmentRow) -> None:
        """The spooled bytes are gone or changed: its blobs are not known any more."""
        self._state.lose(row)
        error = IntegrityError(
            "spooled segment is damaged or gone; the next backup reads its files again and sends them"
        )
        self._reporter.error(spool_path(self._client.spool, row.parcel_id, row.index).name, "send", error)

    def _head_is_stale(self) -> bool:
        return self._state.get("head") != self._head_body() or self._head_is_damaged()

    def _head_is_damaged(self) -> bool:
        """Somebody removed or changed the head that waits for its reader."""
        if not self._state.parcels():
            return False
        try:
            return _sha256(self._storage.get(head_name(self._folder))) != self._state.get("head_sha256")
        except NotFoundError:
            return True

    def _head_body(self) -> bytes:
        return b"".join(b"%b%d%d" % (p.id, p.segments, p.closed) for p in self._parcels())

    def _parcels(self) -> list[HeadParcel]:
        """Parcels whose first segment, at least, has been sent; counted up to the first unsent one."""
        found = []
        for parcel in self._state.parcels():
            waiting = self._state.first_unsent(parcel.ord)
            segments = parcel.segments if waiting is None else waiting
            if segments:
                found.append(HeadParcel(parcel.id, segments, parcel.closed and waiting is None))
        return found

    def _write_head(self) -> None:
        body, parcels = self._head_body(), self._parcels()
        head = Head(self._state.next_serial("head"), parcels)
        data = write_head(
            head, self._client.identity.signing, group=self._client.ticket.group, issued_s=int(time.time())
        )
        self._storage.put(head_name(self._folder), data, overwrite=True)
        self._state.put({"head": body, "head_sha256": _sha256(data)})


def _sha256(data: bytes) -> bytes:
    return sha256(data).digest()
