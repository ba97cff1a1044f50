"""Verifying payloads: decode, hash, and for trees whether restic can live with them.

Runs in a thread of its own ahead of the repository, in batches bounded by plain bytes, so that a
segment of payloads that inflate costs time but not memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cdr_plugin.contracts import Decoder
from cdr_plugin.errors import CdrError, NotFoundError, PayloadError
from cdr_plugin.model.blobs import MAX_TREE_BLOB_BYTES, PLAIN, BlobId, BlobType, Payload, verify_blob
from cdr_plugin.model.trees import decode_canonical_tree

BATCH_BYTES = 16 * 1024 * 1024
BATCH_BLOBS = 512
MAX_HELD_TREE_BYTES = 900_000_000
"""Of an encoded tree: state keeps it until its version is complete, and SQLite's rows end at 10^9."""


@dataclass(frozen=True, slots=True)
class VerifiedBlob:
    """A payload that decodes to the blob it names. ``data`` is the plaintext of a data blob; trees are
    decoded again when their version is complete, so theirs is not kept."""

    payload: Payload
    data: bytes


class Verifier:
    """Decodes payloads of one client. One per thread, since decoders are."""

    def __init__(self, decoder: Callable[[str], Decoder], max_data_bytes: int) -> None:
        self._make = decoder
        self._decoders: dict[str, Decoder] = {}
        self.max_data_bytes = max_data_bytes

    def verify(self, payload: Payload) -> VerifiedBlob:
        """PayloadError, FormatError or PluginError, naming the blob; nothing wrong ever passes."""
        if payload.type is BlobType.DATA:
            return VerifiedBlob(payload, self.decode(payload))
        if len(payload.data) > MAX_HELD_TREE_BYTES:
            raise PayloadError(f"{_name(payload)}: {len(payload.data)} bytes, the limit is {MAX_HELD_TREE_BYTES}")
        decode_canonical_tree(self.decode(payload))
        return VerifiedBlob(payload, b"")

    def decode(self, payload: Payload) -> bytes:
        """The plaintext, its SHA-256 checked; whether a tree is one that restic can read is not."""
        limit = self.max_data_bytes if payload.type is BlobType.DATA else MAX_TREE_BLOB_BYTES
        if not 0 < payload.length <= limit:
            raise PayloadError(f"{_name(payload)}: declares {payload.length} bytes, the limit is {limit}")
        data = self._decode(payload)
        verify_blob(payload.type, payload.id, data)
        return data

    def _decode(self, payload: Payload) -> bytes:
        if payload.method == PLAIN:
            if len(payload.data) != payload.length:
                raise PayloadError(f"{_name(payload)}: {len(payload.data)} bytes, {payload.length} declared")
            return bytes(payload.data)
        decoder = self._decoders.get(payload.method)
        if decoder is None:
            decoder = self._decoders[payload.method] = self._make(payload.method)
        try:
            return decoder.decode(payload.data, payload.length, _no_base)
        except CdrError as error:
            raise type(error)(f"{_name(payload)}: {error}") from error

    def batches(
        self, payloads: Iterable[Payload], rejected: Callable[[Payload, CdrError], None]
    ) -> Iterator[list[VerifiedBlob]]:
        """Verified blobs in batches; what does not verify goes to ``rejected`` and is left out."""
        batch: list[VerifiedBlob] = []
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
            size += payload.length
            if size >= BATCH_BYTES or len(batch) >= BATCH_BLOBS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _name(payload: Payload) -> str:
    return f"{payload.type.name.lower()} blob {payload.id.hex()[:10]} ({payload.method[:40]})"


def _no_base(_type: BlobType, id_: BlobId) -> bytes:
    raise NotFoundError(f"base blob {id_.hex()[:10]} is not here")
