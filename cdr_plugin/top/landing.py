"""Target reduction, ``store.reduce = "after"``: what clients send *lands* first, and is reduced when convenient.

A segment has landed when it was authentic and lies durably in ``landing/`` of the group's state; then its receipt
is written, and then it leaves the inbox. ``receive`` finds it there as in an inbox. See docs/design/top-tier.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from heapq import merge
from pathlib import Path

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import AuthenticationError, CdrError, IntegrityError, NotFoundError, RemoteError
from cdr_plugin.files import exclusive
from cdr_plugin.identity.keys import VerifyKey
from cdr_plugin.identity.register import Client, ClientState, SenderKind
from cdr_plugin.parcel.head import Head
from cdr_plugin.parcel.limits import MAX_SEGMENT_OBJECT_BYTES
from cdr_plugin.parcel.naming import folder_id, parcel_folder
from cdr_plugin.parcel.records import iter_records
from cdr_plugin.parcel.segment import open_segment
from cdr_plugin.parcel.version import SignedVersionRecord, verify_version_record
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.answer import Answerer
from cdr_plugin.top.enrolment import listed_with_new_clients
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of, is_cut_off, merged
from cdr_plugin.top.intake import MAX_SEGMENT_VERSIONS, Arrival
from cdr_plugin.top.landed import INDEX
from cdr_plugin.top.landing_notes import LandingNotes
from cdr_plugin.top.quota import within
from cdr_plugin.top.receive import newest_head, ordered
from cdr_plugin.top.state import ClientRows, TakenSegment, VersionRow, VersionState
from cdr_plugin.top.tier import TopTier


@dataclass(slots=True)
class Landed:
    """What one run has landed; ``inboxes_failed``: those that were left out."""

    segments: int = 0
    bytes: int = 0
    inboxes_failed: int = 0


class _WithLanded(ClientRows):
    """The rows of a client as if what has landed were taken; for a receipt, which is all that may be made of it."""

    def __init__(self, rows: ClientRows, landed: Callable[[bytes], set[int]], versions: Sequence[VersionRow]) -> None:
        self.__dict__.update(rows.__dict__)
        self._landed = landed
        self._told = versions

    def taken(self, parcel: bytes) -> Iterator[TakenSegment]:
        landed = self._landed(parcel)
        others = (segment for segment in super().taken(parcel) if segment.idx not in landed)
        return merge(others, map(TakenSegment, sorted(landed)))

    def versions(self) -> list[VersionRow]:
        return sorted([*super().versions(), *self._told], key=lambda row: (row.number, row.hash))


def land(top: TopTier, reporter: Reporter) -> Landed:
    """Move what approved senders put into the inboxes to the landing, and tell them. StorageFullError when there is no
    room: what has landed stays, the inboxes keep the rest."""
    result = Landed()
    top.require_identity()
    with ExitStack() as stack:
        stack.enter_context(exclusive(top.state_folder / "receive.lock", f"receiving of {top.name}"))
        own = top.plugins.transport_plugin(str(top.landing))
        place = stack.enter_context(own.open(str(top.landing), {}, create=True))
        inboxes = stack.enter_context(Inboxes(top.plugins, top.inboxes, reporter, top.view, top.landing))
        notes = LandingNotes(top.landing)
        stack.callback(notes.close)
        listings = listed_with_new_clients(top, inboxes, reporter)
        for client in top.register.clients(top.group):
            if client.state is ClientState.APPROVED and not client.via:
                _Landing(top, client, inboxes, listings, place, notes, reporter, result).run()
        result.inboxes_failed = inboxes.failures
    return result


class _Landing:
    """What one sender has put into the inboxes."""

    def __init__(
        self,
        top: TopTier,
        sender: Client,
        inboxes: Inboxes,
        listings: Sequence[Inbox],
        place: Transport,
        notes: LandingNotes,
        reporter: Reporter,
        result: Landed,
    ) -> None:
        """``place``: the landing, whose puts are durable."""
        self._top = top
        self._sender = sender
        self._inboxes = inboxes
        self._listings = listings
        self._place = place
        self._notes = notes
        self._reporter = reporter
        self._result = result
        self._folder = folder_id(sender.key, top.group)
        self._homes = homes_of(self._folder, inboxes, listings)
        self._outside = [listing for listing in listings if listing.transport in inboxes.answered]

    def run(self) -> None:
        arrivals = merged(self._outside, self._folder)
        if not arrivals:
            return
        head = newest_head(self._top, self._inboxes, self._outside, self._sender, self._reporter)
        landed, versions = [], []
        for arrival in self._within_quota(ordered(arrivals, head)):
            found = self._land(arrival)
            if found is not None:
                landed.append(arrival)
                versions += found
        if not landed:
            return
        self._drop_reduced()
        # Once it is told that they are taken, the sender's head need not name their parcels any more.
        self._notes.note_order(self._sender.fingerprint, list(dict.fromkeys(one.parcel_id for one in landed)))
        self._notes.add(self._sender.fingerprint, versions)
        self._answer(head, arrivals)
        for arrival in landed:
            self._inboxes.delete(arrival)

    def _within_quota(self, arrivals: Sequence[Arrival]) -> list[Arrival]:
        """What has landed before counts as well."""
        waiting = [listing for listing in self._listings if listing not in self._outside]
        before = merged(waiting, self._folder)
        inboxes, homes = self._inboxes, self._homes
        fitting = within(self._top, self._sender, [*before, *arrivals], inboxes, homes, self._reporter)
        return fitting[len(before) :]

    def _land(self, arrival: Arrival) -> list[VersionRow] | None:
        """The versions whose records a segment carries, once it is durable in the landing; None for what stays in the
        inbox: ``receive`` looks at it, and says what is wrong with it."""
        for inbox, size in arrival.places:
            if size > MAX_SEGMENT_OBJECT_BYTES:
                continue
            try:
                data = inbox.get(arrival.name, 0, MAX_SEGMENT_OBJECT_BYTES + 1)
                versions = list(self._versions(arrival, data))
            except NotFoundError:
                continue
            except RemoteError as error:
                self._reporter.note(f"{arrival.label}: {error}; left in the inbox")
                continue
            except IntegrityError:
                continue
            self._place.put(arrival.name, data, overwrite=True)
            self._result.segments += 1
            self._result.bytes += len(data)
            self._reporter.progress(segments=self._result.segments, bytes_in=self._result.bytes)
            return versions
        return None

    def _versions(self, arrival: Arrival, data: bytes) -> Iterator[VersionRow]:
        """AuthenticationError, FormatError for a segment that is not this sender's, or not whole."""
        opened = open_segment(
            data,
            group=self._top.group,
            keys=self._top.identity.sealing_keys(self._top.group),
            accept=self._accept,
            parcel_id=arrival.parcel_id,
            index=arrival.index,
        )
        if self._sender.kind is not SenderKind.CLIENT:
            return
        for signed in _signed(opened.plaintext):
            record = verify_version_record(signed, client=self._sender.key, group=self._top.group)
            yield VersionRow(
                record.number, b"", b"", signed.hash, record.previous, VersionState.PENDING, record.time
            )

    def _accept(self, sender: VerifyKey) -> None:
        if sender != self._sender.key:
            raise AuthenticationError(f"signed by another client than {self._sender.name}, in whose folder it lies")
        self._top.register.accept(sender, self._sender.group)

    def _answer(self, head: Head | None, arrivals: Sequence[Arrival]) -> None:
        rows = self._top.state.client(self._sender.fingerprint)
        known = {(row.number, row.hash) for row in rows.versions()}
        noted = self._notes.versions(self._sender.fingerprint)
        self._notes.drop(self._sender.fingerprint, [row for row in noted if (row.number, row.hash) in known])
        waiting = [row for row in noted if (row.number, row.hash) not in known]
        told = _WithLanded(rows, self._landed_of, waiting)
        present = {(arrival.parcel_id, arrival.index) for arrival in arrivals}
        answerer = Answerer(self._top, self._sender, self._inboxes, self._homes)
        own = told if self._sender.kind is SenderKind.CLIENT else None
        is_all = not is_cut_off(self._outside, self._folder)
        answerer.write(told, own, head, present, is_all=is_all, final=False)

    def _drop_reduced(self) -> None:
        order = self._notes.order(self._sender.fingerprint)
        self._notes.drop_parcels(self._sender.fingerprint, [parcel for parcel in order if not self._is_here(parcel)])

    def _is_here(self, parcel: bytes) -> bool:
        return next(self._paths(parcel), None) is not None

    def _landed_of(self, parcel: bytes) -> set[int]:
        return {int(path.name, 16) for path in self._paths(parcel)}

    def _paths(self, parcel: bytes) -> Iterator[Path]:
        return (self._top.landing / parcel_folder(self._folder, parcel)).glob(INDEX)


def _signed(plaintext: bytearray) -> Iterator[SignedVersionRecord]:
    """The version records of a segment, as far as it can be read: the rest is for ``receive`` to judge."""
    count = 0
    try:
        for record in iter_records(plaintext):
            if isinstance(record, SignedVersionRecord):
                count += 1
                if count > MAX_SEGMENT_VERSIONS:
                    return
                yield record
    except CdrError:
        return
