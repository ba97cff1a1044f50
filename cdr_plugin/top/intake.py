"""Reading one sender's segments ahead of the repository: get, open, decode, verify.

A generator that a thread runs ahead of the pass. It yields events in the order of the segments;
the pass applies them. What is wrong with a segment is named and rejected, and the rest goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import (
    AuthenticationError,
    CdrError,
    FormatError,
    NotFoundError,
    PluginError,
    RemoteError,
    UnknownVersionError,
)
from cdr_plugin.identity.keys import SealingKey, VerifyKey
from cdr_plugin.identity.register import Client, Register, SenderKind
from cdr_plugin.model.blobs import Payload
from cdr_plugin.parcel.attestation import Attestation, SignedAttestation, verify_attestation
from cdr_plugin.parcel.blobrefs import BlobRef
from cdr_plugin.parcel.introduction import Introduction
from cdr_plugin.parcel.limits import MAX_SEGMENT_OBJECT_BYTES
from cdr_plugin.parcel.parts import PartAssembler
from cdr_plugin.parcel.records import FirstPart, Part, Preamble, Record, iter_records
from cdr_plugin.parcel.segment import open_segment, segment_label
from cdr_plugin.parcel.version import SignedVersionRecord, check_record_format
from cdr_plugin.top.verify import Delta, VerifiedBlob, Verifier

MAX_SEGMENT_VERSIONS = 1024
"""Version records in one segment: one, and after a loss those of the versions before. Each costs a
signature and a look at all others."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A segment object: its name, where it belongs, and each inbox that has it with its size there in bytes."""

    name: str
    parcel_id: bytes
    index: int
    places: tuple[tuple[Transport, int], ...]

    @property
    def size(self) -> int:
        return self.places[0][1]

    @property
    def label(self) -> str:
        return segment_label(self.parcel_id, self.index)


@dataclass(frozen=True, slots=True)
class Blobs:
    """Verified blobs, ready to be stored, and among them those that copy from others."""

    blobs: Sequence[VerifiedBlob | Delta]


@dataclass(frozen=True, slots=True)
class Subject:
    """What follows is of this client (a fingerprint), for which the sender, a tier, speaks; and what it says
    of it."""

    client: bytes
    introduction: Introduction | None


@dataclass(frozen=True, slots=True)
class Attested:
    """The sender, a tier, compared these blobs of the client with its own: the client delivered them."""

    blobs: Sequence[BlobRef]


@dataclass(frozen=True, slots=True)
class Version:
    """A version record, not yet verified."""

    signed: SignedVersionRecord


@dataclass(frozen=True, slots=True)
class Opened:
    """A segment that verified, and the highest number of a version that it is part of."""

    arrival: Arrival
    number: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Everything up to and including these segments has been yielded."""

    segments: Sequence[Opened]


@dataclass(frozen=True, slots=True)
class Kept:
    """Segments with parts of a payload of which others are not here. They stay in the inbox until
    those come, or until their version is committed without: then nothing needs them any more."""

    segments: Sequence[Opened]


@dataclass(frozen=True, slots=True)
class Left:
    """A segment that stays in the inbox for a program that can read all of it: ours cannot."""

    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Rejected:
    """A segment of which nothing, or not everything, can be used; the client sends it again."""

    arrival: Arrival
    sha256: bytes
    error: CdrError


Event = Subject | Blobs | Attested | Version | Taken | Kept | Left | Rejected


class Intake:
    """Opens the segments of one client, or of a tier that speaks for several. One per thread. ``own``: our
    fingerprint, to which attestations are addressed."""

    def __init__(
        self,
        sender: Client,
        own: Sequence[bytes],
        keys: Sequence[SealingKey],
        register: Register,
        verifier: Verifier,
        temporary: Path,
        note: Callable[[str], None],
    ) -> None:
        self._sender = sender
        self._own = own
        self._keys = keys
        self._register = register
        self._verifier = verifier
        self._note = note
        self._parts = PartAssembler(temporary)
        self._waiting: list[Opened] = []
        self._next = 0

    def events(self, arrivals: Sequence[Arrival]) -> Iterator[Event]:
        """Events for segments of one or several parcels, each parcel's in ascending order."""
        parcel: bytes | None = None
        for arrival in arrivals:
            if arrival.parcel_id != parcel:
                parcel = arrival.parcel_id
                yield from self._give_up_parts()
                self._next = 0
            yield from self._one(arrival)
        yield from self._give_up_parts()

    def _one(self, arrival: Arrival) -> Iterator[Event]:
        """A copy that is damaged or cannot be read does not matter as long as another inbox has a good one."""
        rejected: Rejected | None = None
        unread = False
        for inbox, size in arrival.places:
            data = b""
            try:
                data = self._get(arrival, inbox, size)
                opened = open_segment(
                    data,
                    group=self._sender.group,
                    keys=self._keys,
                    accept=self._accept,
                    parcel_id=arrival.parcel_id,
                    index=arrival.index,
                )
            except NotFoundError:
                continue  # taken away meanwhile; the head tells whether it is missing
            except RemoteError as error:
                self._note(f"{arrival.label}: {error}; left in the inbox")  # one bad sector stops nobody else
                unread = True
                continue
            except UnknownVersionError as error:
                self._note(f"{self._sender.name}: {error}")  # of a newer CDR: stays where it is
                unread = True
                continue
            except (FormatError, AuthenticationError) as error:
                rejected = Rejected(arrival, sha256(data).digest() if data else b"", error)
                continue
            yield from self._contents(arrival, data, opened.plaintext)
            return
        if rejected is not None and not unread:
            yield rejected

    def _get(self, arrival: Arrival, inbox: Transport, size: int) -> bytes:
        if size > MAX_SEGMENT_OBJECT_BYTES:
            raise FormatError(f"{arrival.label}: {size} bytes are more than a segment may have")
        return inbox.get(arrival.name, 0, MAX_SEGMENT_OBJECT_BYTES + 1)

    def _accept(self, sender: VerifyKey) -> None:
        if sender != self._sender.key:
            raise AuthenticationError(f"signed by another client than {self._sender.name}, in whose folder it lies")
        self._register.accept(sender, self._sender.group)

    def _contents(self, arrival: Arrival, data: bytes, plaintext: bytearray) -> Iterator[Event]:
        if arrival.index != self._next:
            yield from self._give_up_parts()  # what began in a segment that is not here
        self._next = arrival.index + 1
        found = _Found()
        yield from self._sections(plaintext, found)
        if isinstance(found.failure, PluginError | UnknownVersionError):
            self._note(f"{arrival.label}: {found.failure}; left in the inbox")  # our lack, not its fault
            yield Left(arrival)
            yield from self._give_up_parts()
            return
        if found.failure is not None:
            yield Rejected(arrival, sha256(data).digest(), found.failure)
            return
        opened = Opened(arrival, found.number)
        if found.has_orphans:
            yield Kept((opened,))
            return
        self._waiting.append(opened)
        if not self._parts.open:
            # A payload that still lacks parts keeps its segments in the inbox until it is whole.
            yield Taken(tuple(self._waiting))
            self._waiting.clear()

    def _give_up_parts(self) -> Iterator[Event]:
        """The payload that is open cannot be completed now."""
        self._parts.drop()
        if self._waiting:
            yield Kept(tuple(self._waiting))
            self._waiting.clear()

    def _sections(self, plaintext: bytearray, found: _Found) -> Iterator[Event]:
        """A preamble and the records behind it, as events, one after the other."""
        records = iter_records(plaintext, max_data_bytes=self._verifier.max_data_bytes)
        preamble = found.next_of(records)
        while isinstance(preamble, Preamble):
            found.number = max(found.number, preamble.number)
            section = _Section(records, found.next_of(records))
            if self._sender.kind is SenderKind.TIER:
                try:
                    yield self._subject(preamble, section)
                except CdrError as error:
                    found.refuse(error)
            yield from self._section(preamble, section, found)
            preamble = section.first

    def _subject(self, preamble: Preamble, section: _Section) -> Subject:
        first = section.first
        if not isinstance(first, Introduction):
            return Subject(preamble.client, None)
        if first.client.fingerprint != preamble.client:
            raise AuthenticationError("a preamble of one client with the introduction of another")
        section.first = None
        return Subject(preamble.client, first)

    def _section(self, preamble: Preamble, section: _Section, found: _Found) -> Iterator[Event]:
        """What is attested comes before the payloads behind it, which may copy from that."""
        yield from self._stretch(preamble, section, found)
        while section.first is not None and not isinstance(section.first, Preamble):
            yield from self._stretch(preamble, section, found)

    def _stretch(self, preamble: Preamble, section: _Section, found: _Found) -> Iterator[Event]:
        for batch in self._verifier.batches(self._payloads(section, found), lambda _, error: found.refuse(error)):
            yield Blobs(batch)
        attestations, section.attestations = section.attestations, []
        for signed in attestations:
            try:
                yield Attested(self._attested(signed, preamble.client))
            except CdrError as error:
                found.refuse(error)
        versions, section.versions = section.versions, []
        for version in versions:
            try:
                check_record_format(version.body)
            except UnknownVersionError as error:
                found.refuse(error)  # all of the segment stays: the record is in no other
                return
            yield Version(version)

    def _attested(self, signed: SignedAttestation, client: bytes) -> Sequence[BlobRef]:
        said = self._verified(signed)
        if said.client != client:
            raise AuthenticationError("an attestation of one client behind the preamble of another")
        return said.blobs

    def _verified(self, signed: SignedAttestation) -> Attestation:
        """Addressed to our key, or to one that we had when it was made."""
        *others, last = self._own
        for own in others:
            try:
                return self._verified_as(signed, own)
            except AuthenticationError:
                continue
        return self._verified_as(signed, last)

    def _verified_as(self, signed: SignedAttestation, own: bytes) -> Attestation:
        return verify_attestation(
            signed, tier=self._sender.key, group=self._sender.group, addressee=own, now_s=time.time()
        )

    def _payloads(self, section: _Section, found: _Found) -> Iterator[Payload]:
        """The payloads up to the next preamble, or to the first one behind an attestation; which is left in
        ``section.first``."""
        record = section.first or found.next_of(section.records)
        while record is not None and not section.ends_before(record):
            payload = record if isinstance(record, Payload) else self._other(record, section, found)
            if payload is not None:
                yield payload
            record = None if found.is_cut_off else found.next_of(section.records)
        section.first = record

    def _other(self, record: Record, section: _Section, found: _Found) -> Payload | None:
        """What is no whole payload; one whose last part this is."""
        try:
            if isinstance(record, Part) and self._parts.open is None:
                found.has_orphans = True
            elif isinstance(record, FirstPart | Part):
                return self._parts.add(record)
            elif isinstance(record, SignedVersionRecord) and found.versions < MAX_SEGMENT_VERSIONS:
                found.versions += 1
                section.versions.append(record)
            elif isinstance(record, SignedAttestation) and self._sender.kind is SenderKind.TIER:
                section.attestations.append(record)
            else:
                raise FormatError("a record that a client does not send")
        except FormatError as error:
            found.cut_off(error)
        return None


class _Found:
    """What a segment holds besides its records: the highest number of a version, and what is wrong. The first
    failure speaks for the segment; a hostile one has half a million."""

    def __init__(self) -> None:
        self.number = 0
        self.versions = 0
        self.has_orphans = False
        self.is_cut_off = False
        """Nothing is read behind a record that is none."""
        self.failure: CdrError | None = None

    def refuse(self, error: CdrError) -> None:
        self.failure = self.failure or error

    def cut_off(self, error: CdrError) -> None:
        self.is_cut_off = True
        self.refuse(error)

    def next_of(self, records: Iterator[Record]) -> Record | None:
        try:
            return next(records, None)
        except FormatError as error:
            self.cut_off(error)
            return None


class _Section:
    """The records behind one preamble. ``first``: the one that was read and not looked at yet."""

    def __init__(self, records: Iterator[Record], first: Record | None) -> None:
        self.records = records
        self.first = first
        self.versions: list[SignedVersionRecord] = []
        self.attestations: list[SignedAttestation] = []

    def ends_before(self, record: Record) -> bool:
        is_payload = isinstance(record, Payload | FirstPart | Part)
        return isinstance(record, Preamble) or (is_payload and bool(self.attestations))
