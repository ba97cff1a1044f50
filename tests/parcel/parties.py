"""Who takes part in these tests: one client, one tier, and somebody else. All keys are fixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cdr_plugin.identity.keys import KemSuite, SealingKey, SigningKey, VerifyKey
from cdr_plugin.model.blobs import BlobType, Payload, blob_id
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.records import Preamble
from cdr_plugin.parcel.segment import Parcel
from cdr_plugin.parcel.version import VERSION_RECORD_FORMAT, VersionRecord, chunker_id

GROUP = "legal"
CLIENT = SigningKey(b"\x01" * 32)
STRANGER = SigningKey(b"\x02" * 32)
TIER = SigningKey(b"\x03" * 32)
TIER_SEALING = SealingKey(KemSuite.X25519, b"\x04" * 32)
OTHER_SEALING = SealingKey(KemSuite.X25519, b"\x05" * 32)
CLIENT_SEALING = SealingKey(KemSuite.X25519, b"\x06" * 32)
CHUNKER = chunker_id({"name": "rabin", "polynomial": "0x3DA3358B4DC173"})
PREAMBLE = Preamble(7, CLIENT.public.fingerprint, CHUNKER, "cdr 0.1.0")


NOT_FOR_THIS_READER: list[dict[str, Any]] = [
    {"keys": [OTHER_SEALING]},
    {"tier": STRANGER.public},
    {"client": STRANGER.public},
    {"group": "sales"},
    {"now_s": 100},
    {"lowest_serial": 10},
]
"""What makes of ``reader_of_an_answer`` somebody else, or one who knows a newer answer."""


def reader_of_an_answer(**change: Any) -> dict[str, Any]:
    """The client of an answer of serial 9 that expires at 99."""
    return {
        "keys": [CLIENT_SEALING],
        "tier": TIER.public,
        "client": CLIENT.public,
        "group": GROUP,
        "now_s": 50,
        "lowest_serial": 9,
    } | change


def with_a_flipped_byte(data: bytes) -> Iterator[bytes]:
    """Once for each byte of ``data``."""
    for position in range(len(data)):
        bad = bytearray(data)
        bad[position] ^= 1
        yield bytes(bad)


def anybody(key: VerifyKey) -> None:
    """Accepts every sender."""


def parcel(sender: SigningKey = CLIENT, group: str = GROUP, receiver: SealingKey = TIER_SEALING) -> Parcel:
    return Parcel.new(sender, group, receiver.public)


def payload(data: bytes, type_: BlobType = BlobType.DATA) -> Payload:
    return Payload(type_, blob_id(data), "plain/1", len(data), data)


def segments(builder: SegmentBuilder, payloads: Iterable[Payload]) -> list[bytearray]:
    """All segments of ``payloads``, the last one included."""
    made = [bytearray(full) for item in payloads for full in builder.add_payload(item)]
    last = builder.finish()
    return made if last is None else [*made, last]


def version_record(**change: object) -> VersionRecord:
    fields: dict[str, object] = {
        "format": VERSION_RECORD_FORMAT,
        "group": GROUP,
        "chunker": CHUNKER,
        "client": CLIENT.public.fingerprint,
        "number": 7,
        "previous": b"\x11" * 32,
        "tree": b"\x12" * 32,
        "time": "2026-11-22T19:00:00.5+01:00",
        "paths": ["/home/alice", "/tmp/\u00fcml"],
        "hostname": "alice-laptop",
        "username": "alice",
        "uid": 1000,
        "gid": 1000,
        "excludes": ["*.tmp"],
        "tags": ["daily"],
        "program_version": "cdr 0.1.0",
        "summary": None,
    } | change
    return VersionRecord(**fields)  # type: ignore[arg-type]
