"""An object of a newer program is neither used, nor rejected, nor removed: it stays where it is, and is reported."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cdr_plugin.errors import UnknownVersionError
from cdr_plugin.identity.documents import read_carried
from cdr_plugin.identity.ticket import _armour, open_enrolment, read_ticket
from cdr_plugin.parcel.attestation import SignedAttestation, verify_attestation
from cdr_plugin.parcel.baseline import read_baseline, read_blob_part
from cdr_plugin.parcel.head import read_head
from cdr_plugin.parcel.introduction import Introduction
from cdr_plugin.parcel.policy import PolicyDocument, read_policy, write_policy
from cdr_plugin.parcel.receipt import read_receipt
from cdr_plugin.parcel.records import iter_records
from cdr_plugin.parcel.room import Room, read_room, read_unverified_room, write_plain_room, write_room
from cdr_plugin.parcel.segment import open_segment, read_prefix, reopen_own_segment
from cdr_plugin.parcel.standing import read_standing
from cdr_plugin.parcel.tier_keys import read_tier_keys
from cdr_plugin.parcel.verified import Verified, read_verified, write_verified
from cdr_plugin.parcel.version import SignedVersionRecord, verify_version_record
from tests.parcel import golden
from tests.parcel.parties import CLIENT, CLIENT_SEALING, GROUP, TIER, TIER_SEALING, anybody

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "wire-v1.json").read_text())
SMALL = bytes.fromhex(VECTORS["segments"]["x25519"]["small"])
MANIFEST = bytes.fromhex(VECTORS["baseline"]["manifest"])
PARTS = [bytes.fromhex(part) for part in VECTORS["baseline"]["parts"]]


def _read_part(data: bytes) -> object:
    manifest = golden.baseline(PARTS)
    return read_blob_part(data, replace(manifest, parts=[sha256(data).digest(), *manifest.parts[1:]]), 0, golden.READER)


def _read_ticket(data: bytes) -> object:
    return read_ticket(_armour(GROUP, data), now_s=5)


_TO_CLIENT: dict[str, Any] = {"keys": [CLIENT_SEALING], "client": CLIENT.public, "group": GROUP, "now_s": 5}
_FOR_CLIENT: dict[str, Any] = {"client": CLIENT.public, "group": GROUP, "issued_s": 1}
ROOM = Room(limit=9, used=8, ignored=0, time_s=1, serial=1)

READERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "segment": (
        SMALL,
        lambda d: open_segment(
            d, group=GROUP, keys=[TIER_SEALING], accept=anybody, parcel_id=golden.SECRET.id, index=5
        ),
    ),
    "own segment": (SMALL, lambda d: reopen_own_segment(d, golden.SECRET, 5)),
    "prefix": (SMALL[:56], read_prefix),
    "head": (bytes.fromhex(VECTORS["head"]), lambda d: read_head(d, signer=CLIENT.public, group=GROUP, now_s=5)),
    "enrolment": (
        bytes.fromhex(VECTORS["enrolment"]),
        lambda d: open_enrolment(d, keys=[TIER_SEALING], group=GROUP, tier=TIER.public, now_s=5),
    ),
    "ticket": (b64decode("".join(VECTORS["ticket"].splitlines()[4:-1])), _read_ticket),
    "receipt": (bytes.fromhex(VECTORS["receipt"]), lambda d: read_receipt(d, tier=TIER.public, **_TO_CLIENT)),
    "standing": (bytes.fromhex(VECTORS["standing"]), lambda d: read_standing(d, tier=TIER.public, **_TO_CLIENT)),
    "keys": (bytes.fromhex(VECTORS["keys"]), lambda d: read_tier_keys(d, trusted=TIER.public, **_TO_CLIENT)),
    "policy": (
        write_policy(PolicyDocument(2, ""), TIER, sealing=CLIENT_SEALING.public, **_FOR_CLIENT),
        lambda d: read_policy(d, tier=TIER.public, **_TO_CLIENT),
    ),
    "verified": (
        write_verified(Verified(2), TIER, sealing=CLIENT_SEALING.public, **_FOR_CLIENT),
        lambda d: read_verified(d, tier=TIER.public, **_TO_CLIENT),
    ),
    "room": (write_room(ROOM, TIER, group=GROUP), lambda d: read_room(d, tier=TIER.public, group=GROUP, now_s=5)),
    "plain room": (write_plain_room(ROOM), lambda d: read_unverified_room(d, 5)),
    "baseline": (MANIFEST, lambda d: read_baseline(d, golden.READER)),
    "baseline part": (PARTS[0], _read_part),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(("at", "value"), [(0, 2), (0, 255), (1, 99), (1, 255)])
def test_every_reader_knows_an_object_of_a_newer_program_for_what_it_is(kind: str, at: int, value: int) -> None:
    data, read = READERS[kind]
    read(data)
    with pytest.raises(UnknownVersionError, match="is not known; left where it is, upgrade cdr"):
        read(data[:at] + bytes((value,)) + data[at + 1 :])


def test_who_only_carries_a_document_does_not_take_a_newer_one_for_an_old_one() -> None:
    head = bytes.fromhex(VECTORS["head"])
    assert read_carried(b"\2" + head[1:], kind="head", is_owner=lambda *_: True) is None


def _newer(body: bytes, **more: object) -> bytes:
    """A structure as a newer program might make it: another format, and keys that nobody knows."""
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(body), "format": 2, **more})


def test_structures_with_a_format_of_their_own_are_known_for_newer_ones() -> None:
    record, said = golden.signed_record(), golden.signed_attestation()
    newer_record = _newer(record.body, consistency="vss")
    signed = SignedVersionRecord(newer_record, CLIENT.sign(b"cdr/1 version record", newer_record))
    with pytest.raises(UnknownVersionError, match="format 2 is not known"):
        verify_version_record(signed, client=CLIENT.public, group=GROUP)
    newer_attestation = _newer(said.body, proof=b"p")
    attested = SignedAttestation(newer_attestation, TIER.sign(b"cdr/1 attestation", newer_attestation))
    with pytest.raises(UnknownVersionError, match="format 2 is not known"):
        verify_attestation(attested, tier=TIER.public, group=GROUP, addressee=b"t" * 32, now_s=5)
    introduction = Introduction(CLIENT.public, CLIENT_SEALING.public, "alice", {}).to_bytes()
    with pytest.raises(UnknownVersionError, match="format 2 is not known"):
        Introduction.from_bytes(_newer(introduction, site="berlin"))
    with pytest.raises(UnknownVersionError, match="records of format 9"):
        list(iter_records(msgspec.msgpack.encode([0, 9, 7, b"c" * 32, b"k" * 32, "cdr 9", "more"])))


