"""Baselines: what a client possesses at the top without having sent it, by the operator's word.

A manifest and its parts, each signed by the tier and sealed to the client. The manifest names the
SHA-256 of every part object in order, so whatever is torn, swapped or of another series is refused
before it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import msgspec
import zstandard

from cdr_plugin.errors import AuthenticationError, FormatError
from cdr_plugin.identity.codec import Bytes16, Count, WireStruct, check_optional_hash
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.blobrefs import BlobRef, unpack_refs
from cdr_plugin.parcel.limits import (
    MAX_BASELINE_BLOBS,
    MAX_BASELINE_PART_BYTES,
    MAX_BASELINE_PARTS,
    MAX_TEXT_CHARS,
)
from cdr_plugin.parcel.sealed import Addressee, Author

_KIND = "baseline"
_PART_KIND = "baseline part"
_HASH_BYTES = 32

_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
_Hash = Annotated[bytes, msgspec.Meta(max_length=_HASH_BYTES)]


class _Manifest(WireStruct, frozen=True):
    series: Bytes16
    parts: Annotated[bytes, msgspec.Meta(max_length=MAX_BASELINE_PARTS * _HASH_BYTES)]
    blob_parts: Count
    snapshot: Annotated[str, msgspec.Meta(max_length=64)]
    time: _Text
    number: Count
    record: _Hash
    tree: _Hash

    def __post_init__(self) -> None:
        check_optional_hash(self.record, "record")
        check_optional_hash(self.tree, "tree")


class _Part(WireStruct, frozen=True):
    series: Bytes16
    number: Count
    data: Annotated[bytes, msgspec.Meta(max_length=MAX_BASELINE_PART_BYTES)]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The manifest. ``series``: 16 random bytes, the same in all parts. ``parts``: SHA-256 of each part
    object, in order; the first ``blob_parts`` list blobs, the others hold facts.

    ``snapshot`` (hex) and ``time`` (RFC 3339): the version that was adopted. ``number`` and ``record``: the
    newest version of this client that the tier knows, 0 and empty when there is none; ``tree`` its root
    tree, empty when the tier does not know it.
    """

    serial: int
    series: bytes
    parts: Sequence[bytes]
    blob_parts: int
    snapshot: str
    time: str
    number: int = 0
    record: bytes = b""
    tree: bytes = b""


def write_baseline(baseline: Baseline, author: Author) -> bytes:
    """The manifest's object. ``baseline.serial`` must be higher than that of any before, durably."""
    body = _Manifest(
        series=baseline.series,
        parts=b"".join(baseline.parts),
        blob_parts=baseline.blob_parts,
        snapshot=baseline.snapshot,
        time=baseline.time,
        number=baseline.number,
        record=baseline.record,
        tree=baseline.tree,
    )
    return author.seal(_KIND, baseline.serial, body)


def read_baseline(data: Buffer, addressee: Addressee) -> Baseline:
    """The manifest that the tier wrote for this client; AuthenticationError, FormatError."""
    serial, body = addressee.open(data, _KIND, _Manifest)
    if len(body.parts) % _HASH_BYTES or body.blob_parts > len(body.parts) // _HASH_BYTES:
        raise FormatError(f"baseline: {len(body.parts)} bytes are no hashes of at least {body.blob_parts} parts")
    if (body.number == 0) != (not body.record):
        raise FormatError("baseline: number and record of the newest version contradict each other")
    parts = [body.parts[at : at + _HASH_BYTES] for at in range(0, len(body.parts), _HASH_BYTES)]
    return Baseline(
        serial, body.series, parts, body.blob_parts, body.snapshot, body.time, body.number, body.record, body.tree
    )


def write_blob_part(series: bytes, number: int, serial: int, keys: Sequence[bytes], author: Author) -> bytes:
    """The object of a part that lists at most ``MAX_BASELINE_BLOBS`` blobs: type byte and ID of each."""
    return author.seal(_PART_KIND, serial, _Part(series=series, number=number, data=b"".join(keys)))


def write_facts_part(series: bytes, number: int, serial: int, facts: Buffer, author: Author) -> bytes:
    """The object of a part with the next at most ``MAX_BASELINE_PART_BYTES`` bytes of facts."""
    packed = zstandard.ZstdCompressor(level=3).compress(facts)
    # What does not compress grows by a few bytes per block: then it stays as it is, see _unpacked.
    data = b"\1" + packed if len(packed) < len(facts) else b"\0" + bytes(facts)
    return author.seal(_PART_KIND, serial, _Part(series=series, number=number, data=data))


def read_blob_part(data: Buffer, baseline: Baseline, number: int, addressee: Addressee) -> list[BlobRef]:
    """The blobs of part ``number``; AuthenticationError when it is not that part, FormatError."""
    packed = _open_part(data, baseline, number, addressee)
    return unpack_refs(packed, MAX_BASELINE_BLOBS, f"part {number} of baseline")


def read_facts_part(data: Buffer, baseline: Baseline, number: int, addressee: Addressee) -> bytes:
    """The facts of part ``number``; as ``read_blob_part``."""
    packed = _open_part(data, baseline, number, addressee)
    if packed[:1] == b"\0":
        return packed[1:]
    if packed[:1] != b"\1":
        raise FormatError(f"part {number} of baseline: facts of an unknown form")
    return _inflate(packed[1:], number)


def _inflate(packed: bytes, number: int) -> bytes:
    try:
        size = zstandard.get_frame_parameters(packed).content_size
        if size > MAX_BASELINE_PART_BYTES:
            raise FormatError(f"part {number} of baseline: inflates beyond {MAX_BASELINE_PART_BYTES} bytes")
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"part {number} of baseline: does not decompress: {error}") from None


def _open_part(data: Buffer, baseline: Baseline, number: int, addressee: Addressee) -> bytes:
    if sha256(data).digest() != baseline.parts[number]:
        raise AuthenticationError(f"part {number} of baseline: not the one that its manifest names")
    serial, part = addressee.open(data, _PART_KIND, _Part)
    if (serial, part.series, part.number) != (baseline.serial, baseline.series, number):
        raise AuthenticationError(f"part {number} of baseline: of another series")
    return part.data
