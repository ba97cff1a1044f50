"""Verifying payloads: decode, hash, and for trees whether restic can live with them.

Runs in a thread of its own ahead of the repository, in batches bounded by plain bytes, so that a
segment of payloads that inflate costs time but not memory. A payload that copies from other blobs is
handed on as it is, in its place: only the pass knows what its client possesses (``top/deltas.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cdr_plugin.contracts import Decoder, FetchBlob
from cdr_plugin.errors import CdrError, NotFoundError, PayloadError, PluginError
from cdr_plugin.model.blobs import MAX_TREE_BLOB_BYTES, PLAIN, BlobId, BlobType, Payload, verify_blob
from cdr_plugin.model.trees import decode_canonical_tree

BATCH_BYTES = 16 * 1024 * 1024
BATCH_BLOBS = 512
MAX_DELTA_BASES = 64
"""Blobs that one payload may copy from, each of which is read for it. A blob of 8 MiB replaces at most 17 that
the chunker makes; a folder's listing, one."""
MAX_HELD_TREE_BYTES = 900_000_000
"""Of an encoded tree: state keeps it until its version is complete, and SQLite's rows end at 10^9."""


def _no_base(_type: BlobType, id_: BlobId) -> bytes:
    raise NotFoundError(f"base blob {id_.hex()[:10]} is not here")


@dataclass(frozen=True, slots=True)
class VerifiedBlob:
    """A payload that decodes to the blob it names. ``data`` is the plaintext of a data blob; trees are
    decoded again when their version is complete, so theirs is not kept."""

    payload: Payload
    data: bytes


@dataclass(frozen=True, slots=True)
class Delta:
    """A payload that decodes only with other blobs, ``bases``, of its own type; none: with a method that is not
    here."""

    payload: Payload
    bases: Sequence[BlobId]


class Verifier:
    """Decodes payloads. One per thread, since decoders are. ``passes_unknown``: what needs a method that is not
    here is handed on undecoded instead of refused."""

    def __init__(
        self, decoder: Callable[[str], Decoder], max_data_bytes: int, *, passes_unknown: bool = False
    ) -> None:
        self._make = decoder
        self._passes_unknown = passes_unknown
        self._decoders: dict[str, Decoder] = {}
        self.max_data_bytes = max_data_bytes

    def verify(self, payload: Payload) -> VerifiedBlob | Delta:
        """PayloadError, FormatError or PluginError, naming the blob; nothing wrong ever passes."""
        self._check_length(payload)
        try:
            bases = self._bases(payload)
        except PluginError:
            if not self._passes_unknown:
                raise
            return Delta(payload, ())
        if bases:
            return Delta(payload, bases)
        return self.verified(payload, self.decode(payload))

    def verified(self, payload: Payload, data: bytes) -> VerifiedBlob:
        """``data`` is what the payload decodes to; FormatError for a tree that restic could not read."""
        if payload.type is BlobType.DATA:
            return VerifiedBlob(payload, data)
        decode_canonical_tree(data)
        return VerifiedBlob(payload, b"")

    def decode(self, payload: Payload, fetch: FetchBlob = _no_base) -> bytes:
        """The plaintext, its SHA-256 checked; whether a tree is one that restic can read is not. What
        ``fetch`` raises passes through."""
        self._check_length(payload)
        data = self._decode(payload, fetch)
        verify_blob(payload.type, payload.id, data)
        return data

    def _check_length(self, payload: Payload) -> None:
        limit = self.max_data_bytes if payload.type is BlobType.DATA else MAX_TREE_BLOB_BYTES
        if not 0 < payload.length <= limit:
            raise PayloadError(f"{_name(payload)}: declares {payload.length} bytes, the limit is {limit}")
        if payload.type is BlobType.TREE and len(payload.data) > MAX_HELD_TREE_BYTES:
            raise PayloadError(f"{_name(payload)}: {len(payload.data)} bytes, the limit is {MAX_HELD_TREE_BYTES}")

    def _bases(self, payload: Payload) -> Sequence[BlobId]:
        if payload.method == PLAIN:
            return ()
        try:
            bases = self._decoder(payload).bases(payload.data)
        except CdrError as error:
            raise type(error)(f"{_name(payload)}: {error}") from error
        if len(bases) > MAX_DELTA_BASES:
            raise PayloadError(f"{_name(payload)}: copies from {len(bases)} blobs, the limit is {MAX_DELTA_BASES}")
        return bases

    def _decode(self, payload: Payload, fetch: FetchBlob) -> bytes:
        if payload.method == PLAIN:
            if len(payload.data) != payload.length:
                raise PayloadError(f"{_name(payload)}: {len(payload.data)} bytes, {payload.length} declared")
            return bytes(payload.data)
        try:
            return self._decoder(payload).decode(payload.data, payload.length, fetch)
        except CdrError as error:
            raise type(error)(f"{_name(payload)}: {error}") from error

    def _decoder(self, payload: Payload) -> Decoder:
        decoder = self._decoders.get(payload.method)
        if decoder is None:
            decoder = self._decoders[payload.method] = self._make(payload.method)
        return decoder

    def batches(
        self, payloads: Iterable[Payload], rejected: Callable[[Payload, CdrError], None]
    ) -> Iterator[list[VerifiedBlob | Delta]]:
        """Verified blobs, and deltas, in batches and in order; what does not verify goes to ``rejected`` and
        is left out."""
        batch: list[VerifiedBlob | Delta] = []
        size = 0
        for payload in payloads:
            try:
                blob = self.verify(payload)
            except CdrError as error:
                # A new one: the traceback of this one holds the decoded bytes, and a segment may hold
                # 20,000 frames of 8 MiB that are not what they claim (300 of them took 2.4 GB).
                rejected(payload, type(error)(str(error)))
                continue
            batch.append(blob)
            size += payload.length if isinstance(blob, VerifiedBlob) else len(payload.data)
            if size >= BATCH_BYTES or len(batch) >= BATCH_BLOBS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _name(payload: Payload) -> str:
    return f"{payload.type.name.lower()} blob {payload.id.hex()[:10]} ({payload.method[:40]})"
