"""``cdr send`` of a client: answers and segments go out in order, then the head; receipts are read before, and again
behind what was sent.

Needs no lock against ``cdr backup``: it sees a segment only once it is durable and recorded. Every
step can be repeated: putting the same sealed object twice changes nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Self

from cdr_plugin.client.adoption import take_baseline
from cdr_plugin.client.answers import answer_wanted
from cdr_plugin.client.back_pressure import BackPressure
from cdr_plugin.client.catalogs import remove_old_catalogs
from cdr_plugin.client.notices import read_notices
from cdr_plugin.client.policy import adopt_policies
from cdr_plugin.client.receipts import apply_receipt, read_receipt_in
from cdr_plugin.client.resealing import reseal_waiting
from cdr_plugin.client.room import Room, SpoolFullError, free_files
from cdr_plugin.client.rotating import note_answered, to_be_announced
from cdr_plugin.client.rows import SegmentRow
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.standing import read_standings
from cdr_plugin.client.states import SegmentEvent, SegmentState
from cdr_plugin.client.tier import ENROLLED_AFTER, ClientTier
from cdr_plugin.client.tier_keys import read_keys_of_tier
from cdr_plugin.client.verified import read_verified_in
from cdr_plugin.contracts import Transport, Verdict
from cdr_plugin.errors import IntegrityError, NotConvenientError, NotFoundError, RemoteError, StorageFullError
from cdr_plugin.files import exclusive
from cdr_plugin.parcel.head import Head, HeadParcel, write_head
from cdr_plugin.parcel.layout import Layout, read_layout
from cdr_plugin.parcel.naming import Answer, answer_name, enrolment_name, folder_id, group_id, head_name, segment_name
from cdr_plugin.parcel.receipt import Receipt
from cdr_plugin.reporter import Reporter
from cdr_plugin.transports.placed import PlacedTransport

_HEAD_EVERY = 8  # segments; a reader beside us sees progress at the price of one small object

Sent = Callable[[SegmentRow], None]


@dataclass(slots=True)
class SendResult:
    """What one run sent; ``waiting`` is what is left in the queue. ``bytes_sent`` are those that had to
    move, ``bytes_resumed`` were in the storage already from a put that was cut off."""

    segments_sent: int = 0
    bytes_sent: int = 0
    segments_waiting: int = 0
    bytes_waiting: int = 0
    bytes_resumed: int = 0
    waiting_for: str = ""
    """What the rest waits for, where it was not convenient to go on."""

    def add(self, other: SendResult) -> None:
        for name in ("segments_sent", "bytes_sent", "segments_waiting", "bytes_waiting", "bytes_resumed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.waiting_for = "; ".join(filter(None, (self.waiting_for, other.waiting_for)))


def send(
    client: ClientTier,
    reporter: Reporter,
    sent: Sent = lambda _row: None,
    may_go_on: Callable[[], Verdict] = lambda: Verdict(True),
) -> SendResult:
    """Send all that is spooled, and take in what the tiers above answered.

    RemoteError when the storage fails: what was sent stays sent, the rest waits for the next run.
    ``sent`` is called for each segment that has become durable in the storage; ``may_go_on`` is asked
    before each: when it says no, the rest waits, and the result says for what.
    """
    with Sender(client, reporter, sent) as sender:
        return sender.run(may_go_on)


def retry(client: ClientTier) -> int:
    """Segments that were sent, that no receipt has answered and whose bytes are here wait to be sent again; how
    many. Under ``send.lock``."""
    with exclusive(client.state_folder / "send.lock", f"sending of {client.name}"):
        return client.state.holdings.return_all()


class Sender:
    """One session of sending, under ``send.lock``, with the storages that answer."""

    def __init__(self, client: ClientTier, reporter: Reporter, sent: Sent = lambda _row: None) -> None:
        self._client = client
        self._state = client.state
        self._reporter = reporter
        self._sent = sent
        self._folder = folder_id(client.identity.signing.public, client.ticket.group)
        self._stack = ExitStack()
        self._storages: dict[str, Transport] = {}
        self._queue: deque[SegmentRow] = deque()
        self._unannounced = 0
        self._result = SendResult()
        self._pressure = BackPressure(client, reporter)

    def __enter__(self) -> Self:
        """NotConvenientError while another process sends, RemoteError when no storage answers."""
        with ExitStack() as stack:
            lock = self._client.state_folder / "send.lock"
            stack.enter_context(exclusive(lock, f"sending of {self._client.name}"))
            self._storages = dict(self._reachable(stack))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _reachable(self, stack: ExitStack) -> list[tuple[str, Transport]]:
        """Every storage that answers, in the configured order; the others are noted."""
        found, failures = [], []
        for url in self._client.storages:
            try:
                found.append((url, self._open(stack.enter_context(self._client.plugins.transport(url)))))
            except RemoteError as error:
                failures.append(error)
        if not found:
            raise failures[0]
        for failure in failures:
            self._reporter.note(f"client {self._client.name}: {failure}; another storage is used")
        return found

    def _open(self, storage: Transport) -> Transport:
        """The storage with the layout that it has."""
        layout = read_layout(storage)
        if layout is Layout.PER_CLIENT:
            return storage
        return PlacedTransport(storage, layout, group_id(self._client.ticket.group))

    def _each(self, work: Callable[[str, Transport], object]) -> None:
        """``work`` with each storage; one that fails, unless segments go there, is left out from then on."""
        for url, storage in list(self._storages.items()):
            try:
                work(url, storage)
            except RemoteError as error:
                if storage is self._storage:
                    raise
                self._reporter.note(f"client {self._client.name}: {error}; left out for now")
                del self._storages[url]

    @property
    def _first(self) -> tuple[str, Transport]:
        """Where segments go now, and its URL."""
        return next(iter(self._storages.items()))

    @property
    def _storage(self) -> Transport:
        return self._first[1]

    def run(self, may_go_on: Callable[[], Verdict]) -> SendResult:
        """The whole session, as far as ``may_go_on`` lets it."""
        self.begin()
        while (verdict := may_go_on()).convenient and self.send_next():
            pass
        result = self.end()
        result.waiting_for = (self.held_up_by or verdict.reason) if result.segments_waiting else ""
        return result

    def begin(self) -> None:
        """Take in what was answered, and put what it asks for in front of the queue."""
        self._take_answers()
        reseal_waiting(self._client, self._reporter)
        self._send_enrolment()
        self._answer_wanted()

    @property
    def held_up_by(self) -> str:
        """Why nothing more is sent in this session although something waits; empty while there is room above."""
        return self._pressure.reason

    def send_next(self) -> bool:
        """Send the first segment of the queue; False when there is none, or no room for it."""
        while not self.held_up_by and (row := self._next()) is not None:
            if self._pressure.holds_up(*self._first, row):
                return False
            if self._send_one(row):
                self._pressure.put(*self._first, row)
                self._unannounced += 1
                if self._unannounced >= _HEAD_EVERY:
                    self.announce()
                return True
        return False

    def end(self) -> SendResult:
        """Announce what was sent, and take in what was answered meanwhile."""
        self.announce()
        if self._result.segments_sent:  # else what the session began with is as new
            self._read_receipts()
        remove_old_catalogs(self._state)
        self._result.segments_waiting, self._result.bytes_waiting = self._state.queue()
        return self._result

    def announce(self) -> None:
        """Write the heads that do not say yet what has been sent."""
        try:
            self._write_heads()
        except StorageFullError as error:
            self._pressure.storage_is_full(error)
            if not self._state.queue()[0]:
                raise  # else what waits says it, and the next run announces

    # --- what comes down ---

    def _take_answers(self) -> None:
        self._read_receipts()
        self._each(self._take_baseline)

    def _read_receipts(self) -> None:
        self._read_receipt()
        read_standings(self._client, self._storages.values(), self._folder, self._reporter)
        read_notices(self._client, self._storages.values(), self._folder, self._reporter)
        adopt_policies(self._client, self._storages.values(), self._folder, self._reporter)
        read_verified_in(self._client, self._storages.values(), self._folder, self._reporter)

    def _read_receipt(self) -> None:
        """Each storage may hold one; the newest says all that matters."""
        read_keys_of_tier(self._client, self._storages.values(), self._folder, self._reporter)
        found: list[Receipt | None] = []
        self._each(lambda _, place: found.append(read_receipt_in(self._client, place, self._folder, self._reporter)))
        newest = max((receipt for receipt in found if receipt is not None), key=lambda r: r.serial, default=None)
        if newest is not None:
            note_answered(self._client)
            apply_receipt(self._client, newest, self._reporter)

    def _take_baseline(self, _: str, storage: Transport) -> None:
        """What the operator let us adopt, if anything; what is wrong with it does not stop the sending."""
        try:
            taken = take_baseline(self._client, storage, self._folder, self._reporter)
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
        """Until a receipt shows that the tier knows us by this ticket; the same request does no harm twice."""
        request = self._state.get("enrolment")
        if request is not None and int(self._state.get("receipt_serial") or b"0") <= self._before_enrolment():
            # Over one that a broken storage may have torn: it would be refused for ever.
            self._storage.put(enrolment_name(self._folder, request), request, overwrite=True)
        successor = to_be_announced(self._client)
        if successor is not None:
            self._storage.put(enrolment_name(self._folder, successor), successor, overwrite=True)

    def _before_enrolment(self) -> int:
        """The highest serial of a receipt that may be older than our enrolment: one that was on its way then may
        arrive still, but none that is older than the ticket shows anything. Serials are the tier's microseconds."""
        before = int(self._state.get(ENROLLED_AFTER) or b"0")
        return max(before, (self._client.ticket.issued_s + 1) * 1_000_000) if before else 0

    # --- what goes up ---

    def _answer_wanted(self) -> None:
        try:
            answer_wanted(self._client, Room(self._client, self.send_next).need, self._reporter)
        except SpoolFullError as error:
            self._reporter.note(f"{error}; what the tiers above ask for has to wait")

    def _next(self) -> SegmentRow | None:
        """The first segment that waits. Another process may spool while we send, and take back what it spooled
        only with our lock."""
        if not self._queue:
            self._queue.extend(self._state.segments(SegmentState.SPOOLED))
        return self._queue.popleft() if self._queue else None

    def _send_one(self, row: SegmentRow) -> bool:
        path = spool_path(self._client.spool, row.parcel_id, row.index)
        try:
            # A hard link in the storage would share tampering with the spool: hash before each put.
            intact = _sha256(path.read_bytes()) == row.sha256
        except OSError:
            intact = False  # gone, or on a disk that cannot be read there
        if not intact:
            self._lose(row, "spooled segment is damaged or gone")
            return False
        self._state.begin(row.parcel_ord)
        name = segment_name(self._folder, row.parcel_id, row.index)
        try:
            resumed = self._storage.put_file(name, path)
        except StorageFullError as error:
            self._pressure.storage_is_full(error)
            return False
        except RemoteError as error:
            there = self._found(name, row)
            if there is None or _sha256(there) == row.sha256:
                raise
            data = path.read_bytes()
            if not data.startswith(there):
                self._lose(row, f"the storage has another object of its name ({error})")
                return False
            self._storage.put(name, data, overwrite=True)  # over what a broken storage has torn
            resumed = 0
        self._note_sent(row, resumed)
        return True

    def _note_sent(self, row: SegmentRow, resumed: int) -> None:
        self._state.advance([row], SegmentEvent.SEND)
        if self._client.release == "durable":
            free_files(self._client, [row])
        self._result.segments_sent += 1
        self._result.bytes_sent += row.size - resumed
        self._result.bytes_resumed += resumed
        self._reporter.progress(segments_sent=self._result.segments_sent, bytes_sent=self._result.bytes_sent)
        self._sent(row)

    def _found(self, name: str, row: SegmentRow) -> bytes | None:
        """What has the name that a put failed at. With other bytes no later put could go through: a clone of this
        client, or somebody else, was there before."""
        try:
            return self._storage.get(name, 0, row.size + 1)
        except RemoteError:
            return None

    def _lose(self, row: SegmentRow, why: str) -> None:
        """It will not travel as it is: what it held is wanted, which the next answers carry."""
        self._state.lose(row)
        text = f"{why}; what it held is sent anew by the next 'cdr send'"
        self._reporter.error(spool_path(self._client.spool, row.parcel_id, row.index).name, "send", text)

    # --- heads ---

    def _write_heads(self) -> None:
        """Every storage is told of all parcels: the reader takes the union of what lies in them."""
        self._unannounced = 0
        self._each(self._write_head)

    def _head_is_stale(self, url: str, storage: Transport) -> bool:
        return self._state.get(f"head {url}") != self._head_body() or self._head_is_damaged(url, storage)

    def _head_is_damaged(self, url: str, storage: Transport) -> bool:
        """Somebody removed or changed the head that waits for its reader."""
        if not self._state.parcels():
            return False
        try:
            return _sha256(storage.get(head_name(self._folder))) != self._state.get(f"head_sha256 {url}")
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

    def _write_head(self, url: str, storage: Transport) -> None:
        if not self._head_is_stale(url, storage):
            return
        body, parcels = self._head_body(), self._parcels()
        head = Head(self._state.next_serial("head"), parcels)
        data = write_head(
            head, self._client.identity.signing, group=self._client.ticket.group, issued_s=int(time.time())
        )
        storage.put(head_name(self._folder), data, overwrite=True)
        self._state.put({f"head {url}": body, f"head_sha256 {url}": _sha256(data)})


def _sha256(data: bytes) -> bytes:
    return sha256(data).digest()
