"""Reading the spool back: payloads of blobs that held segments carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import groupby

from cdr_plugin.client.rows import blob_key
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.wanted import WantedBlob
from cdr_plugin.contracts import Decoder, FetchBlob
from cdr_plugin.errors import FormatError, IntegrityError, PayloadError, PluginError
from cdr_plugin.model.blobs import PLAIN, Payload, verify_blob
from cdr_plugin.parcel.parts import PartAssembler
from cdr_plugin.parcel.records import FirstPart, Part, iter_records
from cdr_plugin.parcel.segment import ParcelSecret, reopen_own_segment


class HeldSegments:
    """The segments that are in the spool now. Belongs to one thread."""

    def __init__(self, client: ClientTier) -> None:
        self._client = client
        self._rows = {(row.parcel_ord, row.index): row for row in client.state.holdings.held()}
        self._open = lru_cache(2)(self._read)  # a segment is looked at once more when its successor continues it

    def payloads(self, wanted: Sequence[WantedBlob]) -> Iterator[Payload]:
        """Payloads of those blobs that are held where ``wanted``, in the order of its places, says they were.
        What is damaged is passed over. One payload is in memory at a time, and the segments that it spans."""
        keys = {blob.key for blob in wanted}
        for parcel, blobs in groupby(wanted, key=lambda blob: blob.parcel):
            for payload in self._payloads_of(parcel, sorted(self._spans(parcel, {blob.index for blob in blobs}))):
                if blob_key(payload.type, payload.id) in keys:
                    yield payload

    def _spans(self, parcel: int, indexes: Iterable[int]) -> set[int]:
        """Segments that may hold what was listed in ``indexes``: a payload ends there or just before, and may
        have begun any number of segments earlier."""
        found = set()
        for index in indexes:
            at = index
            found.add(at)
            while at - 1 not in found and (at == index or self._continues(parcel, at)):
                at -= 1
                found.add(at)
        return {index for index in found if (parcel, index) in self._rows}

    def _continues(self, parcel: int, index: int) -> bool:
        """Does the segment begin with more of a payload that began before it?"""
        plaintext = self._open(parcel, index)
        records = iter_records(plaintext) if plaintext else iter(())
        kinds = (type(record) for record in records if isinstance(record, Payload | FirstPart | Part))
        return next(kinds, None) is Part

    def _payloads_of(self, parcel: int, indexes: Sequence[int]) -> Iterator[Payload]:
        parts = PartAssembler(self._client.state_folder)
        last = -1
        for index in indexes:
            if index != last + 1:
                parts.drop()
            last = index
            try:
                yield from _payloads(self._open(parcel, index), parts)
            except FormatError:
                parts.drop()

    def _read(self, parcel: int, index: int) -> bytes:
        """The plaintext of a segment; of one that is gone or damaged, nothing."""
        row = self._rows.get((parcel, index))
        if row is None:
            return b""
        try:
            data = spool_path(self._client.spool, row.parcel_id, row.index).read_bytes()
        except OSError:
            return b""
        if sha256(data).digest() != row.sha256:
            return b""
        secret = ParcelSecret.from_bytes(self._client.state.secret_of(parcel))
        return bytes(reopen_own_segment(data, secret, index))


def _payloads(plaintext: bytes, parts: PartAssembler) -> Iterator[Payload]:
    for record in iter_records(plaintext) if plaintext else ():
        if isinstance(record, Payload):
            yield record
        elif isinstance(record, FirstPart) or (isinstance(record, Part) and parts.open is not None):
            whole = parts.add(record)
            if whole is not None:
                yield whole


class PayloadReader:
    """Decodes payloads of our own, and checks them: what a tier above misses may be what we made wrong."""

    def __init__(self, client: ClientTier) -> None:
        self._plugins = client.plugins
        self._decoders: dict[str, Decoder] = {}

    def can_read(self, payload: Payload) -> bool:
        """Whether its method is installed, and knows the payload for its own."""
        try:
            self.needs_bases(payload)
        except (IntegrityError, PluginError):
            return False
        return True

    def needs_bases(self, payload: Payload) -> bool:
        """IntegrityError when it is none of its method's, PluginError without the method."""
        return payload.method != PLAIN and bool(self._decoder(payload.method).bases(payload.data))

    def read(self, payload: Payload, fetch: FetchBlob) -> bytes:
        """The blob, its SHA-256 checked; IntegrityError, and what ``fetch`` raises."""
        data = bytes(payload.data)
        if payload.method != PLAIN:
            data = self._decoder(payload.method).decode(payload.data, payload.length, fetch)
        verify_blob(payload.type, payload.id, data)
        return data

    def _decoder(self, label: str) -> Decoder:
        if label not in self._decoders:
            decoder = self._plugins.reduction_method(label).decoder()
            if decoder is None:
                raise PayloadError(f"reduction method {label} decodes nothing")
            self._decoders[label] = decoder
        return self._decoders[label]
