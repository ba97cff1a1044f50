"""Reading one client's segments ahead of the repository: get, open, decode, verify.

A generator that a thread runs ahead of the pass. It yields events in the order of the segments;
the pass applies them. What is wrong with a segment is named and rejected, and the rest goes on.
"""

from __future__ import annotations

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
from cdr_plugin.identity.register import Client, Register
from cdr_plugin.model.blobs import Payload
from cdr_plugin.parcel.limits import MAX_SEGMENT_OBJECT_BYTES
from cdr_plugin.parcel.parts import PartAssembler
from cdr_plugin.parcel.records import FirstPart, Part, Preamble, iter_records
from cdr_plugin.parcel.segment import open_segment, segment_label
from cdr_plugin.parcel.version import SignedVersionRecord
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
class Rejected:
    """A segment of which nothing, or not everything, can be used; the client sends it again."""

    arrival: Arrival
    sha256: bytes
    error: CdrError


Event = Blobs | Version | Taken | Kept | Rejected


class Intake:
    """Opens the segments of one client. One per thread."""

    def __init__(
        self,
        client: Client,
        keys: Sequence[SealingKey],
        register: Register,
        verifier: Verifier,
        temporary: Path,
        note: Callable[[str], None],
    ) -> None:
        self._client = client
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
                    group=self._client.group,
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
                self._note(f"{self._client.name}: {error}")  # of a newer CDR: stays where it is
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
        if sender != self._client.key:
            raise AuthenticationError(f"signed by another client than {self._client.name}, in whose folder it lies")
        self._register.accept(sender, self._client.group)

    def _contents(self, arrival: Arrival, data: bytes, plaintext: bytearray) -> Iterator[Event]:
        if arrival.index != self._next:
            yield from self._give_up_parts()  # what began in a segment that is not here
        self._next = arrival.index + 1
        failures: list[CdrError] = []
        versions: list[SignedVersionRecord] = []
        orphans: list[bytes] = []
        numbers = [0]
        payloads = self._payloads(plaintext, versions, orphans, numbers, failures)

        def refuse(_payload: Payload, error: CdrError) -> None:
            if not failures:  # the first speaks for the segment; a hostile one has half a million
                failures.append(error)

        for batch in self._verifier.batches(payloads, refuse):
            yield Blobs(batch)
        for signed in versions:
            yield Version(signed)
        if failures and isinstance(failures[0], PluginError | UnknownVersionError):
            self._note(f"{arrival.label}: {failures[0]}; left in the inbox")  # our lack, not its fault
            yield from self._give_up_parts()
            return
        if failures:
            yield Rejected(arrival, sha256(data).digest(), failures[0])
            return
        opened = Opened(arrival, max(numbers))
        if orphans:
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

    def _payloads(
        self,
        plaintext: bytearray,
        versions: list[SignedVersionRecord],
        orphans: list[bytes],
        numbers: list[int],
        failures: list[CdrError],
    ) -> Iterator[Payload]:
        try:
            for record in iter_records(plaintext, max_data_bytes=self._verifier.max_data_bytes):
                if isinstance(record, Payload):
                    yield record
                elif isinstance(record, Part) and self._parts.open is None:
                    orphans.append(record.id)
                elif isinstance(record, FirstPart | Part):
                    whole = self._parts.add(record)
                    if whole is not None:
                        yield whole
                elif isinstance(record, SignedVersionRecord) and len(versions) < MAX_SEGMENT_VERSIONS:
                    versions.append(record)
                elif isinstance(record, Preamble):
                    numbers.append(record.number)
                else:
                    raise FormatError("a record that a client does not send")
        except FormatError as error:
            failures.append(error)
