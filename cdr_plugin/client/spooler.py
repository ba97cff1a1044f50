"""Takes blobs from the archiver, encodes the new ones and seals them into segments in the spool.

Threads: the archiver's workers encode (the compressor releases the GIL), one thread seals and writes,
so that reading, compressing and writing overlap. Memory is bounded by the few segments between them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cdr_plugin.archiver import NewBlob
from cdr_plugin.client.encoding import Encoding, LabelledEncoder
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.remembering import Remembering
from cdr_plugin.client.state import ClientState, VersionRow, blob_key
from cdr_plugin.files import write_durably
from cdr_plugin.model.blobs import BlobType, Buffer, Payload
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.segment import Parcel
from cdr_plugin.parcel.version import SignedVersionRecord

_SEGMENTS_IN_FLIGHT = 3  # sealed or waiting to be: 24 MiB; more did not make a 2 GB run faster


@dataclass(frozen=True, slots=True)
class Sealed:
    """A segment that is durable in the spool but not yet in the state."""

    index: int
    size: int
    sha256: bytes
    keys: bytes


@dataclass(slots=True)
class SpoolCounts:
    """What a run added: blobs and their plain bytes, bytes of sealed segments."""

    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    spooled_bytes: int = 0

    def add(self, type_: BlobType, length: int) -> None:
        """Count one new blob of so many plain bytes."""
        self.data_added += length
        if type_ is BlobType.DATA:
            self.data_blobs += 1
        else:
            self.tree_blobs += 1


def spool_path(folder: Path, parcel_id: bytes, index: int) -> Path:
    return folder / f"{parcel_id.hex()}-{index:08x}"


class Spooler:
    """The archiver's sink. ``known`` belongs to it from now on: blobs not to be sent.

    ``need`` is told how many bytes the spool is to take next, and makes room, or raises; then nothing more
    is spooled. ``answers``: the parcel holds what was lost, not what is new. ``remembering``: what deltas
    build on, and what later ones will; without it every blob travels whole.
    """

    def __init__(
        self,
        state: ClientState,
        spool: Path,
        parcel: Parcel,
        builder: SegmentBuilder,
        encoders: Callable[[], Sequence[LabelledEncoder]],
        known: KnownBlobs,
        *,
        remembering: Remembering | None = None,
        need: Callable[[int], None] = lambda _bytes: None,
        answers: bool = False,
    ) -> None:
        self.counts = SpoolCounts()
        self._state = state
        self._spool = spool
        self._parcel = parcel
        self._parcel_ord = state.open_parcel(parcel.id, parcel.secret.to_bytes(), answers=answers)
        self._builder = builder
        self._known = known
        self._need = need
        self._refused: BaseException | None = None
        self._remembering = remembering
        self._encoding = Encoding(encoders, remembering)
        self._lock = threading.Lock()
        self._keys: list[bytes] = []
        self._next_index = 0
        self._failure: BaseException | None = None
        self._writer = ThreadPoolExecutor(1, "spool-writer")
        self._writing: list[Future[Sealed]] = []

    # --- the archiver's side ---

    def add_many(self, type_: BlobType, blobs: Sequence[NewBlob]) -> None:
        """Encode and spool those that are new. Blocks while the writer is behind."""
        fresh = self._claim(type_, blobs)
        if not fresh:
            return
        encoded = self._encoding.encode(type_, fresh)
        with self._lock:
            for payload, memories, kept in encoded:
                self._append(payload)
                if self._remembering is not None:
                    self._remembering.add(payload, memories, kept)

    def _claim(self, type_: BlobType, blobs: Sequence[NewBlob]) -> list[NewBlob]:
        with self._lock:
            return [blob for blob in blobs if self._known.add(type_, blob[0])]

    def _append(self, payload: Payload) -> None:
        # A blob's key goes with the segment that is open *after* it was added: that one is never
        # earlier than the segment in which the payload ends, so "known" always means durable.
        for plaintext in self._builder.add_payload(payload):
            self._submit(plaintext)
        self._keys.append(blob_key(payload.type, payload.id))
        self.counts.add(payload.type, payload.length)

    # --- sealing and writing, in order ---

    def _submit(self, plaintext: Buffer) -> None:
        if self._refused is not None:
            raise self._refused  # the segment that found no room is gone: behind it nothing is whole
        try:
            self._need(len(plaintext))
        except BaseException as error:
            self._refused = error
            raise
        self._write(plaintext)

    def _write(self, plaintext: Buffer) -> None:
        keys, self._keys = b"".join(self._keys), []
        self._writing.append(self._writer.submit(self._seal, self._next_index, plaintext, keys))
        self._next_index += 1
        # The newest stays unrecorded: if it is the version's last, its row comes with the version's.
        while len(self._writing) > _SEGMENTS_IN_FLIGHT or (len(self._writing) > 1 and self._writing[0].done()):
            self._record_oldest()

    def _seal(self, index: int, plaintext: Buffer, keys: bytes) -> Sealed:
        sealed = self._parcel.seal(index, plaintext)
        write_durably(spool_path(self._spool, self._parcel.id, index), sealed)
        return Sealed(index, len(sealed), sha256(sealed).digest(), keys)

    def _record_oldest(self, more_keys: bytes = b"") -> None:
        if self._failure is not None:
            raise self._failure  # nothing is recorded behind a gap, whichever thread comes here next
        try:
            sealed = self._writing.pop(0).result()
            self._state.add_segment(self._parcel_ord, sealed.index, sealed.size, sealed.sha256, sealed.keys + more_keys)
        except BaseException as error:
            self._failure = error
            raise
        self.counts.spooled_bytes += sealed.size

    def finish(self, version: VersionRow) -> None:
        """Put the version record behind everything else; when this returns the version is captured."""
        with self._lock:
            self._append_records([version])
            if (rest := self._builder.finish()) is not None:
                self._submit(rest)
            while len(self._writing) > 1:
                self._record_oldest()
            last = self._writing.pop().result()
            self.counts.spooled_bytes += last.size
            # Keys of the last blobs may still wait for a segment that never opened.
            keys = last.keys + b"".join(self._keys)
            self._state.capture(self._parcel_ord, last.index, last.size, last.sha256, keys, version)
        self.close()

    def _append_records(self, versions: Iterable[VersionRow]) -> None:
        for row in versions:
            for plaintext in self._builder.add_version(SignedVersionRecord(row.record, row.signature)):
                self._submit(plaintext)

    def keep(self, repeated: Sequence[VersionRow] = ()) -> None:
        """The run ends without a version: keep what was encoded, so that it costs no byte twice, and the
        records of ``repeated``. The last segment may go beyond the spool's limit. Nothing follows in the parcel."""
        try:
            with self._lock:
                if self._failure is None:
                    self._keep(repeated)
                    self._state.close_parcel(self._parcel_ord)
        finally:
            self.close()

    def _keep(self, repeated: Sequence[VersionRow]) -> None:
        if self._refused is not None:
            self._keys.clear()
        else:
            self._append_records(repeated)
            if (rest := self._builder.finish()) is not None:
                self._write(rest)
        while self._writing:
            # Keys of the last blobs may still wait for a segment that never opened.
            self._record_oldest(b"".join(self._keys) if len(self._writing) == 1 else b"")

    def close(self) -> None:
        """Stop the writer; what is not recorded is left to the next start to remove."""
        self._writer.shutdown(wait=True, cancel_futures=True)
        if self._remembering is not None:
            self._remembering.finish()
