"""The segments of one sender within one pass: a client, or a tier that speaks for the clients below it.

The order of durable actions is that of docs/design/top-tier.md: repository, pins, what is passed on, the rows of
each client, the rows of the sender, answers, and only then is anything removed from an inbox.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import AuthenticationError
from cdr_plugin.identity.register import Client, ClientState, SenderKind
from cdr_plugin.parcel.head import Head, HeadParcel
from cdr_plugin.parcel.introduction import Introduction
from cdr_plugin.read_ahead import read_ahead
from cdr_plugin.top.answer import Answerer
from cdr_plugin.top.intake import (
    Arrival,
    Attested,
    Blobs,
    Event,
    Intake,
    Kept,
    Left,
    Opened,
    Rejected,
    Taken,
    Version,
)
from cdr_plugin.top.intake import Subject as SubjectChanges
from cdr_plugin.top.quarantine import Quarantine
from cdr_plugin.top.quota import within
from cdr_plugin.top.state import ClientRows, VersionState
from cdr_plugin.top.subject import Pass, Subject

CHECKPOINT_BYTES = 512 * 1024 * 1024
"""Bytes taken between two checkpoints: what a crash makes us read again at most."""
MAX_SHOWN = 64
"""Rejected segments of one sender in one pass that are named, and kept in quarantine, where 2 ms go for each. A hostile
one leaves millions."""


@dataclass(frozen=True, slots=True)
class Work:
    """What waits from one sender. ``homes``: the inboxes in which it has a folder; ``below``: of a tier, the
    clients for which something may be done although nothing of them arrived."""

    sender: Client
    rows: ClientRows
    homes: Sequence[Transport]
    head: Head | None
    arrivals: list[Arrival]
    below: Sequence[Client] = ()
    has_more: bool = False
    """Not all that lies there of the sender is among the arrivals."""


class SenderPass:
    """``deadline_s``: when the pass is to end (monotonic)."""

    def __init__(self, pass_: Pass, job: Work, deadline_s: float) -> None:
        self._pass = pass_
        self._top = pass_.top
        self._job = job
        self._sender = job.sender
        self._rows = job.rows
        self._reporter = pass_.reporter
        self._result = pass_.result
        self._deadline_s = deadline_s
        self._quarantine = Quarantine(self._top.state_folder / "quarantine")
        self._inboxes = pass_.inboxes
        self._answer = Answerer(self._top, job.sender, pass_.inboxes, job.homes)
        self._subjects: dict[bytes, Subject] = {}
        self._subject: Subject | None = None
        self._unknown: set[bytes] = set()
        self._number = 1
        self._deletable: list[Arrival] = []
        self._kept: list[Opened] = []
        self._delivered_to: dict[bytes, Subject] = {}
        """Out of segments of which it is not known yet whether they stay."""
        self._since_checkpoint = 0
        self._removed = self._rejected = 0
        self._first_subjects()

    def _first_subjects(self) -> None:
        if self._sender.kind is SenderKind.CLIENT:
            self._subject = self._open_subject(self._sender)
        for client in self._job.below:
            self._open_subject(client)

    def _open_subject(self, client: Client) -> Subject:
        found = self._subjects.get(client.fingerprint)
        if found is None:
            is_itself = client.fingerprint == self._sender.fingerprint
            rows = self._rows if is_itself else self._top.state.client(client.fingerprint)
            found = self._subjects[client.fingerprint] = Subject(self._pass, client, rows, self._rows)
        return found

    def run(self) -> bool:
        """Whether all was done before the lock's time was up, and while there was room for what is passed on. Where
        not all was listed, it was not, as long as what was listed makes room for more."""
        fresh = self._without_replays(self._job.arrivals)
        todo = within(self._top, self._sender, fresh, self._inboxes, self._job.homes, self._reporter)
        with read_ahead(self._intake().events(todo)) as events:
            for event in events:
                self._apply(event)
                if isinstance(event, Taken | Rejected) and self._must_end():
                    self._checkpoint()
                    return False  # never before a segment is done with, or the next pass would begin as this one
        has_all, nothing_waits = cache(self._has_all), cache(self._nothing_waits)
        for subject in self._subjects.values():
            subject.commit(has_all, nothing_waits)
        self._take_superseded()
        self._checkpoint(final=True)
        self._top.told_news(self._sender)
        for subject in self._subjects.values():
            self._top.told_news(subject.client)
            subject.report()
        return not (self._job.has_more and self._removed)

    def _must_end(self) -> bool:
        return time.monotonic() > self._deadline_s or not self._pass.onward.has_room()

    def _intake(self) -> Intake:
        return Intake(
            self._sender,
            [key.fingerprint for key in self._top.identity.verify_keys],
            self._top.identity.sealing_keys(self._top.group),
            self._top.register,
            self._pass.verifier(),
            self._top.state_folder,
            self._reporter.note,
        )

    def _without_replays(self, arrivals: Iterable[Arrival]) -> list[Arrival]:
        """Drop what was taken before; an object that was rejected may come again, repaired."""
        fresh = []
        for arrival in arrivals:
            before = self._rows.outcome(arrival.parcel_id, arrival.index)
            if before is not None and not before.reason:
                self._deletable.append(arrival)
            else:
                fresh.append(arrival)
        return fresh

    # --- events ---

    def _apply(self, event: Event) -> None:
        if isinstance(event, SubjectChanges):
            self._change(event)
        elif isinstance(event, Taken | Kept | Left | Rejected):
            self._end_segments(event)
        elif self._subject is not None:
            self._delivered_to[self._subject.client.fingerprint] = self._subject
            self._deliver(self._subject, event)

    def _end_segments(self, event: Taken | Kept | Left | Rejected) -> None:
        for subject in self._delivered_to.values():
            subject.end_segments(stay=isinstance(event, Kept | Left))
        self._delivered_to.clear()
        if isinstance(event, Taken):
            self._take(event.segments)
        elif isinstance(event, Kept):
            self._kept.extend(event.segments)
        elif isinstance(event, Rejected):
            self._reject(event)

    def _deliver(self, subject: Subject, event: Blobs | Attested | Version) -> None:
        if isinstance(event, Blobs):
            subject.store(event.blobs, self._stored)
        elif isinstance(event, Attested):
            subject.attest(event.blobs)
        else:
            subject.admit(event.signed)

    def _stored(self, cost_bytes: int) -> None:
        self._since_checkpoint += cost_bytes
        # Within a batch too: 512 deltas of 100 bytes each may unfold to as many large trees.
        if self._since_checkpoint >= CHECKPOINT_BYTES:
            self._checkpoint()

    def _change(self, event: SubjectChanges) -> None:
        """What follows is of another client. What is said of one that is not known, or not to be served, is passed
        over: the tier below introduces it with its next parcel, and sends again what it is asked for."""
        client = self._known(event) if event.introduction or event.client not in self._unknown else None
        if client is not None and client.state is ClientState.APPROVED:
            self._subject = self._open_subject(client)
            return
        self._subject = None
        if event.client not in self._unknown:
            self._unknown.add(event.client)
            who = f"client {client.name}: {client.state}" if client else f"client {event.client.hex()[:16]}: not known"
            self._reporter.note(f"{who}; what tier {self._sender.name} sends of it is passed over")

    def _known(self, event: SubjectChanges) -> Client | None:
        try:
            if event.introduction is not None:
                return self._introduce(event.introduction)
            found = self._subjects.get(event.client)
            return found.client if found else self._top.register.below(event.client, self._sender)
        except AuthenticationError as error:
            if event.client not in self._unknown:
                self._reporter.error(f"tier {self._sender.name}", "receive", error)
            return None

    def _introduce(self, said: Introduction) -> Client:
        return self._top.register.introduce(
            Client(
                self._sender.group, said.name, "", said.client, said.sealing, said.facts, ClientState.APPROVED,
                int(time.time()), via=self._sender.fingerprint,
            )
        )  # fmt: skip

    def _take(self, segments: Iterable[Opened]) -> None:
        for opened in segments:
            arrival = opened.arrival
            self._rows.take(arrival.parcel_id, arrival.index)
            self._deletable.append(arrival)
            self._result.segments += 1
            self._result.bytes_in += arrival.size
        self._reporter.progress(segments=self._result.segments, bytes_in=self._result.bytes_in)

    def _reject(self, event: Rejected) -> None:
        self._show(event)
        self._rows.reject(event.arrival.parcel_id, event.arrival.index, event.sha256 or bytes(32), str(event.error))
        self._deletable.append(event.arrival)
        self._result.rejected += 1

    def _show(self, event: Rejected) -> None:
        self._rejected += 1
        if self._rejected <= MAX_SHOWN:
            self._reporter.error(event.arrival.label, "receive", f"client {self._sender.name}: {event.error}")
            self._quarantine.keep(event.arrival)
        elif self._rejected == MAX_SHOWN + 1:
            problem = f"more than {MAX_SHOWN} of its segments are rejected; the others are neither named nor kept"
            self._reporter.error(f"client {self._sender.name}", "receive", problem)

    # --- durability ---

    def _take_superseded(self) -> None:
        """A sender that died, or lost a spooled segment, may never send the rest of a payload. Once
        the version is settled, its other segments need not wait: what they held is stored. Those of a parcel
        that grows still do: behind a fork, its version may have a lower number than those that are settled. What
        a tier sends is of many versions: there it is the end of the parcel that tells."""
        if self._sender.kind is SenderKind.TIER:
            whole = self._whole_parcels()
            self._take([opened for opened in self._kept if opened.arrival.parcel_id in whole])
            return
        settled = (VersionState.COMMITTED, VersionState.INCOMPLETE)
        newest = max((v.number for v in self._rows.versions() if v.state in settled), default=0)
        growing = self._parcels(growing=True)
        kept = (opened for opened in self._kept if opened.number <= newest)
        self._take([opened for opened in kept if opened.arrival.parcel_id not in growing])

    def _whole_parcels(self) -> set[bytes]:
        """Closed parcels of which everything is here, and those before them: what they lack was lost on the way for
        good, since a sender sends in order. If it comes after all, a payload is asked for that came in parts."""
        closed = self._parcels(growing=False)
        in_order = [parcel.id for parcel in self._job.head.parcels if parcel.id in closed] if self._job.head else []
        here = [at for at, parcel in enumerate(in_order) if self._is_all_here(parcel)]
        return set(in_order[: here[-1] + 1]) if here and not self._inboxes.failures else set()

    def _parcels(self, *, growing: bool) -> set[bytes]:
        """Those that the head names and that are still being written, or those that are not."""
        head = self._job.head
        return {parcel.id for parcel in head.parcels if parcel.closed is not growing} if head else set()

    def _is_all_here(self, parcel_id: bytes) -> bool:
        """Is every segment of the parcel taken or kept?"""
        assert self._job.head is not None
        count = next(parcel.segments for parcel in self._job.head.parcels if parcel.id == parcel_id)
        kept = {opened.arrival.index for opened in self._kept if opened.arrival.parcel_id == parcel_id}
        done = sum(segment.idx < count and segment.idx not in kept for segment in self._rows.taken(parcel_id))
        return done + sum(index < count for index in kept) == count

    def _checkpoint(self, *, final: bool = False) -> None:
        """Repository first, then pins, then what is passed on, then state, then receipts, then the inbox."""
        subjects = [subject for subject in self._subjects.values() if final or subject.is_touched]
        self._pass.repo.flush()
        for subject in subjects:
            subject.pin()
        self._pass.onward.checkpoint()
        for subject in subjects:  # before the sender's: what says that a segment was taken
            subject.rows.checkpoint()
            subject.save_counts()
            subject.is_touched = False
        self._rows.checkpoint()
        self._write_answers(subjects, final=final)
        for arrival in self._deletable:
            self._inboxes.delete(arrival)
        self._removed += len(self._deletable)
        self._deletable.clear()
        self._since_checkpoint = 0

    def _write_answers(self, subjects: Sequence[Subject], *, final: bool) -> None:
        for subject in subjects:
            if subject.rows is not self._rows:
                self._result.blobs_missing += self._answer.write_about(subject.client, subject.rows)
        own = self._rows if self._sender.kind is SenderKind.CLIENT else None
        self._result.blobs_missing += self._answer.write(
            self._rows, own, self._job.head, self._present(), is_all=not self._job.has_more, final=final
        )

    def _has_all(self) -> bool:
        """Was every segment taken that the sender's head announces, and is that all?"""
        if self._job.head is None:
            return False
        return all(parcel.closed and self._is_taken(parcel) for parcel in self._job.head.parcels)

    def _is_taken(self, parcel: HeadParcel) -> bool:
        taken = (segment for segment in self._rows.taken(parcel.id) if not segment.reason)
        return sum(segment.idx < parcel.segments for segment in taken) == parcel.segments

    def _nothing_waits(self) -> bool:
        """Is what the sender put before now taken, or here in parts, or not there at all? What is left in an
        inbox, or lies in one that cannot be reached, may bring what seems to be missing."""
        if self._inboxes.failures or self._job.has_more:
            return False
        kept = {opened.arrival for opened in self._kept}
        left = (arrival for arrival in self._job.arrivals if arrival not in kept)
        return all(self._rows.outcome(arrival.parcel_id, arrival.index) for arrival in left)

    def _present(self) -> set[tuple[bytes, int]]:
        """Segments that were in an inbox when the pass began."""
        return {(arrival.parcel_id, arrival.index) for arrival in self._job.arrivals}
