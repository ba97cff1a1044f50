"""The wire format is frozen: objects of the first release open, and writers still make the same."""

import json
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.errors import AuthenticationError
from cdr_plugin.identity.keys import KemSuite
from cdr_plugin.identity.successor import open_successor
from cdr_plugin.identity.ticket import open_enrolment, read_ticket, write_ticket
from cdr_plugin.parcel.attestation import SignedAttestation, verify_attestation
from cdr_plugin.parcel.baseline import read_baseline, read_blob_part, read_facts_part
from cdr_plugin.parcel.head import read_head, write_head
from cdr_plugin.parcel.limits import HEADER_BYTES, SEGMENT_PREFIX_BYTES
from cdr_plugin.parcel.naming import folder_id
from cdr_plugin.parcel.notice import read_notice
from cdr_plugin.parcel.policy import read_policy
from cdr_plugin.parcel.receipt import read_receipt
from cdr_plugin.parcel.records import FirstPart, Part, Preamble, iter_records
from cdr_plugin.parcel.room import read_room, read_unverified_room, write_plain_room, write_room
from cdr_plugin.parcel.segment import _encrypt, _segment_key, open_segment, read_prefix, reopen_own_segment
from cdr_plugin.parcel.standing import read_standing
from cdr_plugin.parcel.tier_keys import read_tier_keys
from cdr_plugin.parcel.version import SignedVersionRecord, verify_version_record
from tests.parcel import golden
from tests.parcel.parties import CHUNKER, CLIENT, CLIENT_SEALING, GROUP, TIER, TIER_SEALING, anybody

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "wire-v1.json").read_text())


@pytest.mark.parametrize("suite", list(KemSuite))
def test_a_segment_of_the_first_release_opens(suite: KemSuite) -> None:
    data = bytes.fromhex(VECTORS["segments"][suite.label]["small"])
    opened = open_segment(
        data, group=GROUP, keys=[golden.KEYS[suite]], accept=anybody, parcel_id=golden.SECRET.id, index=5
    )
    assert opened.sender == CLIENT.public
    assert opened.plaintext.hex() == VECTORS["plaintexts"][0]
    assert reopen_own_segment(data, golden.SECRET, 5) == opened.plaintext


@pytest.mark.parametrize("suite", list(KemSuite))
def test_with_the_same_randomness_a_segment_is_still_sealed_to_the_same_bytes(suite: KemSuite) -> None:
    vector = VECTORS["segments"][suite.label]
    small = bytes.fromhex(vector["small"])
    start = small[: SEGMENT_PREFIX_BYTES + HEADER_BYTES + suite.overhead]
    key = _segment_key(golden.SECRET, read_prefix(small).raw)
    assert _encrypt(start, key, bytes.fromhex(VECTORS["plaintexts"][0])) == small
    start = bytes.fromhex(vector["long_start"])
    long = _encrypt(start, _segment_key(golden.SECRET, start[:SEGMENT_PREFIX_BYTES]), golden.LONG)
    assert sha256(long).hexdigest() == vector["long_sha256"]
    opened = open_segment(
        long, group=GROUP, keys=[golden.KEYS[suite]], accept=anybody, parcel_id=golden.SECRET.id, index=6
    )
    assert opened.plaintext == golden.LONG


def test_record_streams_are_written_and_read_as_in_the_first_release() -> None:
    assert [plaintext.hex() for plaintext in golden.plaintexts()] == VECTORS["plaintexts"]
    kinds = [type(r) for text in VECTORS["plaintexts"] for r in iter_records(bytes.fromhex(text))]
    assert {Preamble, FirstPart, Part, SignedAttestation, SignedVersionRecord} <= set(kinds)


def test_signed_records_are_made_and_verified_as_in_the_first_release() -> None:
    signed = SignedVersionRecord(**{k: bytes.fromhex(v) for k, v in VECTORS["version_record"].items()})
    assert signed == golden.signed_record()
    assert verify_version_record(signed, client=CLIENT.public, group=GROUP) == golden.record()
    said = SignedAttestation(**{k: bytes.fromhex(v) for k, v in VECTORS["attestation"].items()})
    assert said == golden.signed_attestation()
    read = verify_attestation(said, tier=TIER.public, group=GROUP, addressee=b"t" * 32, now_s=5)
    assert read == golden.attestation()


def test_tickets_and_heads_are_made_and_read_as_in_the_first_release() -> None:
    assert write_ticket(golden.ticket(), TIER, issued_s=1) == VECTORS["ticket"]
    assert read_ticket(VECTORS["ticket"], now_s=5) == golden.ticket()
    data = bytes.fromhex(VECTORS["head"])
    assert write_head(golden.head(), CLIENT, group=GROUP, issued_s=1) == data
    assert read_head(data, signer=CLIENT.public, group=GROUP, now_s=5)[1] == golden.head()


def test_sealed_documents_of_the_first_release_open() -> None:
    request = open_enrolment(
        bytes.fromhex(VECTORS["enrolment"]), keys=[TIER_SEALING], group=GROUP, tier=TIER.public, now_s=5
    )
    assert (request.name, request.client, request.sealing) == ("alice", CLIENT.public, CLIENT_SEALING.public)
    answer = read_receipt(
        bytes.fromhex(VECTORS["receipt"]),
        keys=[CLIENT_SEALING],
        tier=TIER.public,
        client=CLIENT.public,
        group=GROUP,
        now_s=5,
    )
    assert asdict(answer) == asdict(golden.receipt())
    standing = read_standing(
        bytes.fromhex(VECTORS["standing"]),
        keys=[CLIENT_SEALING],
        tier=TIER.public,
        client=CLIENT.public,
        group=GROUP,
        now_s=5,
    )
    assert standing == golden.standing()


def test_policies_and_notices_open_for_their_client_as_they_were_written() -> None:
    reader: dict[str, Any] = {
        "keys": [CLIENT_SEALING], "tier": TIER.public, "client": CLIENT.public, "group": GROUP, "now_s": 5,
    }  # fmt: skip
    assert read_policy(bytes.fromhex(VECTORS["policy"]), **reader) == golden.POLICY
    assert read_notice(bytes.fromhex(VECTORS["notice"]), **reader) == golden.NOTICE


def test_a_successor_is_vouched_for_by_the_key_before_it() -> None:
    data, keys = bytes.fromhex(VECTORS["successor"]), [TIER_SEALING]
    read = open_successor(data, keys=keys, group=GROUP, tiers=[TIER.public], now_s=5)
    assert (read.key, read.sealing) == (golden.CLIENT_AFTER.public, CLIENT_SEALING.public)
    read.check(CLIENT.public)
    with pytest.raises(AuthenticationError, match="no successor"):
        read.check(TIER.public)


def test_keys_of_a_tier_open_for_who_trusts_it_or_its_predecessor() -> None:
    data = bytes.fromhex(VECTORS["keys"])
    for trusted in (TIER.public, golden.SUCCESSOR.public):
        read = read_tier_keys(
            data, keys=[CLIENT_SEALING], trusted=trusted, client=CLIENT.public, group=GROUP, now_s=5
        )
        assert read == golden.tier_keys()


def test_a_baseline_of_the_first_release_opens_part_by_part() -> None:
    parts = [bytes.fromhex(part) for part in VECTORS["baseline"]["parts"]]
    read = read_baseline(bytes.fromhex(VECTORS["baseline"]["manifest"]), golden.READER)
    assert read == golden.baseline(parts)
    refs = read_blob_part(parts[0], read, 0, golden.READER)
    assert [bytes((type_,)) + id_ for type_, id_ in refs] == golden.baseline_keys()
    assert read_facts_part(parts[1], read, 1, golden.READER) == golden.FACTS


def test_names_and_keys_are_derived_as_in_the_first_release() -> None:
    assert folder_id(CLIENT.public, GROUP) == VECTORS["folder"]
    assert CHUNKER.hex() == VECTORS["chunker"]
    assert (CLIENT.public.text, CLIENT.public.fingerprint.hex()) == (
        VECTORS["client_key"],
        VECTORS["client_fingerprint"],
    )
    assert {s.label: k.public.text for s, k in golden.KEYS.items()} == VECTORS["sealing_keys"]


def test_notes_about_room_are_written_and_read_as_when_they_came() -> None:
    signed, plain = (bytes.fromhex(VECTORS[name]) for name in ("room", "plain_room"))
    assert (write_room(golden.room(), TIER, group=GROUP), write_plain_room(golden.room())) == (signed, plain)
    assert read_room(signed, tier=TIER.public, group=GROUP, now_s=0, lowest_serial=6) == golden.room()
    unsigned = replace(golden.room(), serial=0)
    assert read_unverified_room(plain, golden.room().time_s) == unsigned
    assert read_unverified_room(signed, golden.room().time_s) == golden.room()
