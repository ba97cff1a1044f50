"""``cdr receive`` of a top tier: one pass over the inboxes under one lock of the repository.

The order of durable actions is that of docs/design/top-tier.md. A thread reads, opens and verifies
segments ahead; this thread stores what it yields.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC

from cdr_plugin.contracts import Event as Happening
from cdr_plugin.contracts import RepositoryPass, Transport
from cdr_plugin.errors import CdrError, IntegrityError, NotFoundError
from cdr_plugin.files import exclusive
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.identity.register import Client
from cdr_plugin.identity.register import ClientState as Registered
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.times import parse_time, time_formatter
from cdr_plugin.parcel.head import Head, read_head
from cdr_plugin.parcel.naming import folder_id, head_name
from cdr_plugin.read_ahead import read_ahead
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.answer import Answerer
from cdr_plugin.top.commit import Committer, admit
from cdr_plugin.top.deltas import Deltas
from cdr_plugin.top.enrolment import admit_clients
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of, merged
from cdr_plugin.top.intake import Arrival, Blobs, Event, Intake, Kept, Opened, Rejected, Taken, Version
from cdr_plugin.top.pins import adoption_pins, renew_pin
from cdr_plugin.top.publish import adopted_fact, withdraw
from cdr_plugin.top.quarantine import Quarantine
from cdr_plugin.top.rebuild import rebuild
from cdr_plugin.top.standing import publish_standings
from cdr_plugin.top.state import ClientRows, VersionState, data_ids
from cdr_plugin.top.tier import TopTier
from cdr_plugin.top.verify import Delta, VerifiedBlob, Verifier

CHECKPOINT_BYTES = 512 * 1024 * 1024
"""Bytes taken between two checkpoints: what a crash makes us read again at most."""
BLOB_COST_BYTES = 512
"""What a blob counts besides its bytes: of rows in memory and in the state. 20 MiB may hold 400,000."""
LOCK_S = 240.0
"""A pass ends at the next segment after this; then prune and check of others get their turn."""

_PASS = "pass"


@dataclass(slots=True)
class ReceiveResult:
    """The summary of ``cdr receive``; ``rejected`` counts segments, ``inboxes_failed`` those that
    were left out."""

    versions_stored: int = 0
    blobs_new: int = 0
    blobs_duplicate: int = 0
    blobs_missing: int = 0
    bytes_in: int = 0
    segments: int = 0
    rejected: int = 0
    inboxes_failed: int = 0
    snapshots: list[str] = field(default_factory=list)

    def add(self, other: ReceiveResult) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class _Work:
    """What waits from one client. ``homes``: the inboxes in which it has a folder."""

    client: Client
    rows: ClientRows
    homes: Sequence[Transport]
    head: Head | None
    arrivals: list[Arrival]


def receive(top: TopTier, reporter: Reporter) -> ReceiveResult:
    """Take what is in the inboxes, commit what is complete, answer. LockedError when the repository
    is locked by somebody else: nothing is lost, the inboxes keep what they hold."""
    result = ReceiveResult()
    top.require_identity()
    with (
        exclusive(top.state_folder / "receive.lock", f"receiving of {top.name}"),
        Inboxes(top.plugins, top.inboxes, reporter) as inboxes,
    ):
        while _one_pass(top, inboxes, reporter, result):
            pass
        result.inboxes_failed = inboxes.failures
    return result


def _one_pass(top: TopTier, inboxes: Inboxes, reporter: Reporter, result: ReceiveResult) -> bool:
    """One lock of the repository; whether more work waits for another."""
    listings = inboxes.listings()
    for listing in listings:
        with inboxes.using(listing.transport):
            admit_clients(top, listing, reporter)
    work = list(_jobs(top, inboxes, listings, reporter))
    if not work and not top.state.get(_PASS):
        return False
    deadline_s = time.monotonic() + LOCK_S
    late = False
    with _noted(top), closing(top.open_repository()) as repository, repository.writing() as repo:
        max_data_bytes = int(repository.chunker["max_size"])
        for job in work:
            late = not _ClientPass(top, repo, max_data_bytes, job, inboxes, reporter, result, deadline_s).run()
            if late:
                break
        senders = {job.client.fingerprint for job in work}
        publish_standings(top, repository.id, repo.versions, inboxes, listings, senders)
    return late


@contextmanager
def _noted(top: TopTier) -> Iterator[None]:
    """A pass that was killed is followed by one, even when nothing has come since: its lock would
    keep restic from pruning."""
    top.state.put({_PASS: "under way"})
    try:
        yield
    finally:
        with suppress(CdrError):  # a needless pass follows, and does no harm
            top.state.put({_PASS: ""})


def _jobs(top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox], reporter: Reporter) -> Iterator[_Work]:
    """Clients for which there is something to do, in the order of their names."""
    folders = {folder_id(client.key, top.group): client for client in top.register.clients(top.group)}
    for folder in sorted({folder for listing in listings for folder in listing.unknown(folders.keys())}):
        reporter.error(f"clients/{folder}", "receive", "unknown sender; left where it is, see 'cdr clients'")
    for folder, client in folders.items():
        arrivals = merged(listings, folder)
        if client.state is not Registered.APPROVED:
            if arrivals:
                reporter.note(f"client {client.name}: revoked; its segments are left where they are")
            continue
        rows = top.state.client(client.fingerprint)
        head = _head(top, inboxes, listings, folder, client, reporter)
        job = _Work(client, rows, homes_of(folder, inboxes, listings), head, _ordered(arrivals, head))
        if job.arrivals or _must_answer(top, job) or _pending(rows):
            yield job


def _pending(rows: ClientRows) -> bool:
    return any(v.state is VersionState.PENDING and not v.reason for v in rows.versions())


def _must_answer(top: TopTier, job: _Work) -> bool:
    """A head that no receipt has answered yet: something may be missing, or it is the first."""
    if job.head is None:
        return False
    return _answered(top, job.client) < job.head.serial


def _answered(top: TopTier, client: Client) -> int:
    """Serial of the newest head that a receipt has answered; older ones are replays."""
    return int(top.state.get(f"answered:{client.fingerprint.hex()}") or b"0")


def _head(
    top: TopTier, inboxes: Inboxes, listings: Sequence[Inbox], folder: str, client: Client, reporter: Reporter
) -> Head | None:
    """The newest of the client's heads: each inbox has one, and each names all parcels."""
    found: list[Head] = []
    answered = _answered(top, client)
    for listing in listings:
        if not listing.has_head(folder):
            continue
        with inboxes.using(listing.transport):
            try:
                data = listing.transport.get(head_name(folder), 0, MAX_DOCUMENT_BYTES + 1)
                head = read_head(data, signer=client.key, group=top.group, now_s=time.time(), lowest_serial=answered)
                found.append(head[1])
            except NotFoundError:
                continue
            except IntegrityError as error:
                problem = f"{error}; segments are taken in the order of their names"
                reporter.error(head_name(folder), "receive", problem)
    return max(found, key=lambda head: head.serial, default=None)


def _ordered(arrivals: list[Arrival], head: Head | None) -> list[Arrival]:
    """By the head's order of parcels, then by index; parcels that it does not name come last."""
    order = {parcel.id: at for at, parcel in enumerate(head.parcels)} if head else {}
    return sorted(arrivals, key=lambda a: (order.get(a.parcel_id, len(order)), a.parcel_id, a.index))


class _ClientPass:
    """One client's segments within one pass."""

    def __init__(
        self,
        top: TopTier,
        repo: RepositoryPass,
        max_data_bytes: int,
        job: _Work,
        inboxes: Inboxes,
        reporter: Reporter,
        result: ReceiveResult,
        deadline_s: float,
    ) -> None:
        self._top = top
        self._repo = repo
        self._job = job
        self._rows = job.rows
        self._client = job.client
        self._reporter = reporter
        self._result = result
        self._deadline_s = deadline_s
        self._quarantine = Quarantine(top.state_folder / "quarantine")
        self._inboxes = inboxes
        self._answer = Answerer(top, job.client, job.rows, inboxes, job.homes)
        self._max_data_bytes = max_data_bytes
        self._verifier = Verifier(top.decoder, max_data_bytes)
        self._deltas = Deltas(repo, job.rows, self._verifier)
        self._deletable: list[Arrival] = []
        self._kept: list[Opened] = []
        self._since_checkpoint = 0

    def run(self) -> bool:
        """Whether all was done before the lock's time was up."""
        if self._rows.is_new():
            rebuild(self._repo, self._rows, self._client, self._reporter)
        todo = self._without_replays(self._job.arrivals)
        with read_ahead(self._intake().events(todo)) as events:
            for event in events:
                self._apply(event)
                if isinstance(event, Taken | Rejected) and time.monotonic() > self._deadline_s:
                    self._checkpoint()
                    return False  # never before a segment is done with, or the next pass would begin as this one
        self._commit()
        self._take_superseded()
        self._checkpoint(final=True)
        if self._deltas.undelivered:
            self._reporter.note(
                f"client {self._client.name}: {self._deltas.undelivered} payloads did not decode and are not counted "
                f"as delivered, the first: {self._deltas.problem}; the client sends whole what is missing then"
            )
        return True

    def _intake(self) -> Intake:
        return Intake(
            self._client,
            self._top.identity.sealing_keys(self._top.group),
            self._top.register,
            Verifier(self._top.decoder, self._max_data_bytes),
            self._top.state_folder,
            self._reporter.note,
        )

    def _without_replays(self, arrivals: Iterable[Arrival]) -> list[Arrival]:
        """Drop what was taken before; an object that was rejected may come again, repaired."""
        fresh = []
        taken: dict[bytes, dict[int, tuple[bytes, str]]] = {}
        for arrival in arrivals:
            rows = taken.setdefault(arrival.parcel_id, self._rows.taken(arrival.parcel_id))
            before = rows.get(arrival.index)
            if before is not None and not before[1]:
                self._deletable.append(arrival)
            else:
                fresh.append(arrival)
        return fresh

    # --- events ---

    def _apply(self, event: Event) -> None:
        if isinstance(event, Blobs):
            self._store(event)
        elif isinstance(event, Version):
            admit(self._rows, event.signed, self._client, _now(), self._reporter.note)
        elif isinstance(event, Taken):
            self._take(event.segments)
        elif isinstance(event, Kept):
            self._kept.extend(event.segments)
        else:
            self._reject(event)

    def _store(self, event: Blobs) -> None:
        for found in event.blobs:
            blob = self._deltas.decode(found) if isinstance(found, Delta) else found
            if blob is not None:
                self._store_one(blob)
            elif isinstance(found, Delta):
                self._since_checkpoint += (1 + len(found.bases)) * BLOB_COST_BYTES
            # Within a batch too: 512 deltas of 100 bytes each may unfold to as many large trees.
            if self._since_checkpoint >= CHECKPOINT_BYTES:
                self._checkpoint()

    def _store_one(self, blob: VerifiedBlob) -> None:
        payload = blob.payload
        if payload.type is BlobType.DATA:
            new = self._repo.add(payload.type, payload.id, blob.data, payload)
            self._deltas.remember(payload.type, payload.id, blob.data)
        else:
            new = not self._repo.has(payload.type, payload.id) and not self._rows.holds(payload.id)
            if new:
                self._rows.hold(payload)
        self._rows.possess(bytes((payload.type,)) + payload.id)
        if new:
            self._result.blobs_new += 1
        else:
            self._result.blobs_duplicate += 1
        self._since_checkpoint += len(payload.data) + BLOB_COST_BYTES

    def _take(self, segments: Iterable[Opened]) -> None:
        for opened in segments:
            arrival = opened.arrival
            self._rows.take(arrival.parcel_id, arrival.index)
            self._deletable.append(arrival)
            self._result.segments += 1
            self._result.bytes_in += arrival.size
        self._reporter.progress(segments=self._result.segments, bytes_in=self._result.bytes_in)

    def _reject(self, event: Rejected) -> None:
        self._reporter.error(event.arrival.label, "receive", f"client {self._client.name}: {event.error}")
        self._quarantine.keep(event.arrival)
        self._rows.reject(event.arrival.parcel_id, event.arrival.index, event.sha256 or bytes(32), str(event.error))
        self._deletable.append(event.arrival)
        self._result.rejected += 1

    # --- durability ---

    def _commit(self) -> None:
        committer = Committer(
            self._repo,
            self._rows,
            self._client,
            self._verifier,
            self._reporter.note,
            self._has_all,
            self._nothing_waits,
        )
        committed = committer.run()
        for version in committed:
            self._result.versions_stored += 1
            self._result.snapshots.append(version.snapshot_id)
            facts = {"client": version.client, "version": version.number, "snapshot_id": version.snapshot_id}
            for problem in self._top.plugins.emit(Happening("version-stored", self._top.name, facts)):
                self._reporter.note(problem)
        if committed:
            self._end_adoption(committed[-1].time)

    def _end_adoption(self, newest: str) -> None:
        """A version that the client made since keeps now what it needs of the one that it adopted. One
        made before says nothing: the client may not have seen its baseline yet."""
        pins = adoption_pins(self._repo.versions, self._client.fingerprint)
        since = self._top.state.get(adopted_fact(self._client)) if pins else None
        if since is not None and parse_time(newest) <= parse_time(since.decode()):
            return
        for pin in pins:
            for inbox in self._inboxes:
                with self._inboxes.using(inbox):
                    withdraw(inbox, self._client)
            self._repo.remove_version(pin.id)

    def _take_superseded(self) -> None:
        """A client that died, or lost a spooled segment, may never send the rest of a payload. Once
        the version is settled, its other segments need not wait: what they held is stored. Those of a parcel
        that grows still do: behind a fork, its version may have a lower number than those that are settled."""
        head = self._job.head
        growing = {parcel.id for parcel in head.parcels if not parcel.closed} if head else set()
        settled = (VersionState.COMMITTED, VersionState.INCOMPLETE)
        newest = max((v.number for v in self._rows.versions() if v.state in settled), default=0)
        kept = (opened for opened in self._kept if opened.number <= newest)
        self._take([opened for opened in kept if opened.arrival.parcel_id not in growing])

    def _checkpoint(self, *, final: bool = False) -> None:
        """Repository first, then pin, then state, then receipt, then the inbox."""
        self._repo.flush()
        self._pin()
        self._rows.checkpoint()
        self._result.blobs_missing += self._answer.write(self._job.head, self._present(), final=final)
        for arrival in self._deletable:
            self._inboxes.delete(arrival)
        self._deletable.clear()
        self._since_checkpoint = 0

    def _pin(self) -> None:
        """Blobs that the repository lost, as when somebody removed the pin, cannot be pinned: the
        client is asked for them."""
        unreached = self._rows.unreached()
        lost = [key for key in unreached if not self._repo.has(BlobType.DATA, BlobId(key[1:]))]
        self._rows.disown(lost)
        kept = sorted(set(unreached) - set(lost)) if lost else unreached
        renew_pin(self._repo, self._client.fingerprint, data_ids(kept))

    def _has_all(self) -> bool:
        """Was every segment taken that the client's head announces, and is that all?"""
        if self._job.head is None:
            return False
        for parcel in self._job.head.parcels:
            taken = self._rows.taken(parcel.id)
            if not parcel.closed or any(taken.get(index) != (b"", "") for index in range(parcel.segments)):
                return False
        return True

    def _nothing_waits(self) -> bool:
        """Is what the client put before now taken, or here in parts, or not there at all? What is left in an
        inbox, or lies in one that cannot be reached, may bring what seems to be missing."""
        if self._inboxes.failures:
            return False
        kept = {opened.arrival for opened in self._kept}
        taken: dict[bytes, dict[int, tuple[bytes, str]]] = {}
        for arrival in self._job.arrivals:
            rows = taken.setdefault(arrival.parcel_id, self._rows.taken(arrival.parcel_id))
            if arrival.index not in rows and arrival not in kept:
                return False
        return True

    def _present(self) -> set[tuple[bytes, int]]:
        """Segments that were in an inbox when the pass began."""
        return {(arrival.parcel_id, arrival.index) for arrival in self._job.arrivals}


def _now() -> str:
    now_s = time.time()
    return time_formatter(UTC)(int(now_s), int(now_s % 1 * 1e9))
