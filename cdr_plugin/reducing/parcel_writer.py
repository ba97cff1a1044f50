"""Writing one parcel of an uplink: records of many clients go in, sealed segments lie durable in its spool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from cdr_plugin import __version__
from cdr_plugin.client.rows import blob_key
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.files import write_durably
from cdr_plugin.identity.documents import NEVER_S
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import Buffer, Payload
from cdr_plugin.parcel.attestation import Attestation, sign_attestation
from cdr_plugin.parcel.blobrefs import BlobRef
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.introduction import Introduction
from cdr_plugin.parcel.limits import DEFAULT_SEGMENT_BYTES, MAX_ATTESTED_BLOBS
from cdr_plugin.parcel.records import TIER_RECORD_FORMAT, Preamble
from cdr_plugin.parcel.segment import Parcel
from cdr_plugin.parcel.version import SignedVersionRecord, chunker_id
from cdr_plugin.reducing.uplink import Uplink
from cdr_plugin.reducing.uplink_state import Forwarded, Passed
from cdr_plugin.top.intake import MAX_SEGMENT_VERSIONS

_NUMBER = 1
"""In preambles: what a tier sends is not of one version."""


class ParcelWriter:
    """One thread at a time. The parcel is opened with its first segment; nothing is durable before ``flush``
    returns, or the segment that holds it was full. ``answers``: it goes in front of the queue."""

    def __init__(self, uplink: Uplink, *, answers: bool = False, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> None:
        ticket = uplink.ticket
        self._uplink = uplink
        self._state = uplink.state
        self._answers = answers
        self._segment_bytes = segment_bytes
        self._chunker = chunker_id(ticket.chunker)
        self._parcel = Parcel.new(uplink.identity.signing, ticket.group, ticket.sealing)
        self._builder: SegmentBuilder | None = None
        self._parcel_ord = 0
        self._next_index = 0
        self._client: Client | None = None
        self._introduced: set[bytes] = set()
        self._attested: list[BlobRef] = []
        self._keys: list[bytes] = []
        self._versions: list[Forwarded] = []
        self._opaque: set[bytes] = set()
        self.fresh: set[bytes] = set()
        """Keys of blobs in the segment that is open: they are known above once it is sealed."""
        self.bytes = 0
        """Of the segments that were sealed."""

    def introduce(self, client: Client) -> None:
        """Let the tier above know a client that has not delivered anything yet."""
        self._of(client)

    def payload(self, client: Client, payload: Payload, *, opaque: bool = False) -> None:
        builder = self._of(client)
        if opaque:
            self._opaque.add(client.fingerprint)
        self._seal_all(builder.add_payload(payload))
        if opaque:
            self._opaque.add(client.fingerprint)  # it may span segments: in all of them
            return
        key = blob_key(payload.type, payload.id)
        self._keys.append(key)
        self.fresh.add(key)

    def attest(self, client: Client, blobs: Sequence[BlobRef]) -> None:
        """Say, a little later, that the client delivered these."""
        self._of(client)
        self._attested += blobs
        if len(self._attested) >= MAX_ATTESTED_BLOBS:
            self._write_attestations()

    def version(self, client: Client, number: int, signed: SignedVersionRecord) -> None:
        builder = self._of(client)
        self._write_attestations()
        # Noted before: if the segment is full with it, its row must say so.
        self._versions.append(Forwarded(client.fingerprint, number, signed))
        self._seal_all(builder.add_version(signed))
        if len(self._versions) >= MAX_SEGMENT_VERSIONS:
            self._seal_open()

    def flush(self) -> None:
        """Returns when everything is durable."""
        self._write_attestations()
        self._seal_open()
        if self._keys:  # of the blob with which the last segment was full
            self._state.pass_keys(self._keys)
            self._keys.clear()
            self.fresh.clear()

    def close(self) -> None:
        """Nothing follows in the parcel. What is not flushed is not part of it."""
        if self._parcel_ord:
            self._state.close_parcel(self._parcel_ord)

    # --- clients ---

    def _of(self, client: Client) -> SegmentBuilder:
        """The builder, in which what comes next belongs to ``client``."""
        builder = self._builder
        if builder is not None and self._client is not None and self._client.fingerprint == client.fingerprint:
            return builder
        self._write_attestations()
        preamble = Preamble(_NUMBER, client.fingerprint, self._chunker, f"cdr {__version__}", TIER_RECORD_FORMAT)
        if builder is None:
            builder = self._builder = SegmentBuilder(preamble, self._segment_bytes)
        else:
            builder.begin(preamble)
        self._client = client
        if client.fingerprint not in self._introduced:
            self._introduced.add(client.fingerprint)
            said = Introduction(client.key, client.sealing, client.name, client.facts)
            self._seal_all(builder.add_introduction(said))
        return builder

    def _write_attestations(self) -> None:
        if not self._attested:
            return
        assert self._builder is not None and self._client is not None
        said, self._attested = self._attested, []
        for at in range(0, len(said), MAX_ATTESTED_BLOBS):
            attestation = Attestation(
                group=self._uplink.ticket.group,
                addressee=self._uplink.above.fingerprint,
                serial=0,
                expires_s=NEVER_S,
                client=self._client.fingerprint,
                blobs=said[at : at + MAX_ATTESTED_BLOBS],
            )
            signed = sign_attestation(attestation, self._uplink.identity.signing)
            self._seal_all(self._builder.add_attestation(signed))

    # --- segments ---

    def _seal_open(self) -> None:
        if self._builder is not None and (rest := self._builder.finish()) is not None:
            self._seal(rest)

    def _seal_all(self, plaintexts: Iterable[Buffer]) -> None:
        for plaintext in plaintexts:
            self._seal(plaintext)

    def _seal(self, plaintext: Buffer) -> None:
        """Durable in the spool first, then in the state, with all that ends in it."""
        if not self._parcel_ord:
            secret = self._parcel.secret.to_bytes()
            self._parcel_ord = self._state.open_parcel(self._parcel.id, secret, answers=self._answers)
        index, self._next_index = self._next_index, self._next_index + 1
        sealed = self._parcel.seal(index, plaintext)
        write_durably(spool_path(self._uplink.spool, self._parcel.id, index), sealed)
        passed = Passed(b"".join(self._keys), tuple(self._versions), frozenset(self._opaque))
        self._state.add_passed(self._parcel_ord, index, len(sealed), sha256(sealed).digest(), passed)
        self._keys.clear()
        self._versions.clear()
        self._opaque.clear()
        self.fresh.clear()
        self.bytes += len(sealed)
