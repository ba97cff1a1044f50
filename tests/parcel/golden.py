"""What the golden vectors are made of: every kind of object, from fixed keys.

``python -m tests.parcel.golden`` prints a new set. HPKE draws its own randomness, so a new set
differs in its sealed parts; a set once committed must open forever.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from cdr_plugin.identity.keys import KemSuite, SealingKey, SigningKey
from cdr_plugin.identity.succession import name_successor
from cdr_plugin.identity.successor import announce_successor
from cdr_plugin.identity.ticket import Ticket, TierKey, request_enrolment, write_ticket
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.versions import SnapshotSummary
from cdr_plugin.parcel.attestation import Attestation, SignedAttestation, sign_attestation
from cdr_plugin.parcel.baseline import Baseline, write_baseline, write_blob_part, write_facts_part
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.head import Head, HeadParcel, write_head
from cdr_plugin.parcel.limits import CHUNK_BYTES
from cdr_plugin.parcel.naming import folder_id
from cdr_plugin.parcel.notice import Notice, write_notice
from cdr_plugin.parcel.policy import PolicyDocument, write_policy
from cdr_plugin.parcel.receipt import (
    ParcelReceipt,
    Receipt,
    RejectedSegment,
    VersionReceipt,
    VersionState,
    write_receipt,
)
from cdr_plugin.parcel.room import Room, write_plain_room, write_room
from cdr_plugin.parcel.sealed import Addressee, Author
from cdr_plugin.parcel.segment import Parcel, ParcelSecret
from cdr_plugin.parcel.standing import PresentVersion, Standing, write_standing
from cdr_plugin.parcel.tier_keys import TierKeys, write_tier_keys
from cdr_plugin.parcel.version import SignedVersionRecord, VersionRecord, sign_version_record
from tests.parcel.parties import (
    CHUNKER,
    CLIENT,
    CLIENT_SEALING,
    GROUP,
    PREAMBLE,
    TIER,
    TIER_SEALING,
    payload,
    version_record,
)

SECRET = ParcelSecret(bytes(range(16)), bytes(range(32, 64)))
KEYS = {
    KemSuite.X25519: TIER_SEALING,
    KemSuite.MLKEM768_X25519: SealingKey(KemSuite.MLKEM768_X25519, bytes(range(96))),
}
LONG = bytes(range(256)) * (5 * CHUNK_BYTES // 512)
"""Two chunks and a half."""
SUMMARY = SnapshotSummary(backup_start="2026-11-22T19:00:00Z", backup_end="2026-11-22T19:00:01Z", files_new=3)


def ticket() -> Ticket:
    return Ticket(
        group=GROUP,
        issuer=TIER.public,
        secret=b"\x07" * 32,
        uses=3,
        expires_s=4_000_000_000,
        tiers=(TierKey(name="hq", key=TIER.public.raw),),
        sealing=TIER_SEALING.public,
        chunker={"name": "rabin", "polynomial": "0x3DA3358B4DC173"},
        inboxes=("file:/srv/inbox",),
        abilities=("zstd/1",),
    )


def head() -> Head:
    return Head(4, (HeadParcel(id=SECRET.id, segments=3, closed=False),))


def room() -> Room:
    return Room(limit=1 << 40, used=12_345, ignored=7, time_s=1_800_000_000, serial=6)


def receipt() -> Receipt:
    rejected = RejectedSegment(index=2, object=b"o" * 32, reason="damaged")
    return Receipt(
        serial=9,
        parcels=(ParcelReceipt(id=SECRET.id, taken=3, digest=b"", rejected=[rejected], missing=[1]),),
        missing=[(BlobType.TREE, BlobId(b"b" * 32))],
        versions=(VersionReceipt(number=7, state=VersionState.STORED, record=b"r" * 32, snapshot="ab", reason="x"),),
        committed=6,
        committed_record=b"q" * 32,
    )


def standing() -> Standing:
    versions = (PresentVersion(5, b"p" * 32), PresentVersion(6, b"q" * 32))
    return Standing(12, "ab" * 32, 6, b"q" * 32, b"t" * 32, "2026-11-22T19:00:00Z", versions)


def record() -> VersionRecord:
    return version_record(summary=SUMMARY)


def signed_record() -> SignedVersionRecord:
    return sign_version_record(record(), CLIENT)


def attestation() -> Attestation:
    return Attestation(GROUP, b"t" * 32, 5, 4_000_000_000, PREAMBLE.client, [(BlobType.DATA, BlobId(b"a" * 32))])


def signed_attestation() -> SignedAttestation:
    return sign_attestation(attestation(), TIER)


def plaintexts() -> list[bytes]:
    """A small stream with every kind of record in it; it has two segments."""
    builder = SegmentBuilder(PREAMBLE, 4096)
    made = [bytes(full) for data in (b"", b"small", bytes(5000)) for full in builder.add_payload(payload(data))]
    made += [bytes(full) for full in builder.add_attestation(signed_attestation())]
    made += [bytes(full) for full in builder.add_version(signed_record())]
    return [*made, bytes(builder.finish() or b"")]


FACTS = b"facts " * 20
AUTHOR = Author(TIER, CLIENT.public, CLIENT_SEALING.public, GROUP, 1)
READER = Addressee((CLIENT_SEALING,), TIER.public, CLIENT.public, GROUP, 5)


def baseline_keys() -> list[bytes]:
    return [b"\0" + b"a" * 32, b"\1" + b"b" * 32]


def baseline(parts: list[bytes]) -> Baseline:
    hashes = [sha256(part).digest() for part in parts]
    return Baseline(11, b"s" * 16, hashes, 1, "ab" * 32, "2026-11-22T19:00:00Z", 6, b"q" * 32, b"t" * 32)


SUCCESSOR = SigningKey(b"\x07" * 32)
"""The tier's signing key after TIER."""


def tier_keys() -> TierKeys:
    return TierKeys(12, SUCCESSOR.public, KEYS[KemSuite.MLKEM768_X25519].public, 3)


def tier_keys_vector() -> bytes:
    said = tier_keys()
    return write_tier_keys(
        said.serial,
        said.sealing,
        SUCCESSOR,
        [name_successor(TIER, SUCCESSOR.public)],
        client=CLIENT.public,
        sealing=CLIENT_SEALING.public,
        group=GROUP,
        issued_s=said.issued_s,
    )


POLICY = PolicyDocument(13, '[forward]\nlimit = "1MiB/s"\n')
NOTICE = Notice(14, "the quota of 1000 bytes is used up")
CLIENT_AFTER = SigningKey(bytes(range(64, 96)))
"""The client's signing key after CLIENT."""


def told_vectors() -> dict[str, Any]:
    """What a tier tells a client, and a client that has a new key the tier."""
    client, sealing = CLIENT.public, CLIENT_SEALING.public
    policy = write_policy(POLICY, TIER, client=client, sealing=sealing, group=GROUP, issued_s=1)
    notice = write_notice(
        NOTICE.text, TIER, serial=NOTICE.serial, client=client, sealing=sealing, group=GROUP, issued_s=1
    )
    line = [name_successor(CLIENT, CLIENT_AFTER.public)]
    successor = announce_successor(ticket(), CLIENT_AFTER, sealing, line, issued_s=5)
    return {"policy": policy.hex(), "notice": notice.hex(), "successor": successor.hex()}


def baseline_vectors() -> dict[str, Any]:
    parts = [
        write_blob_part(b"s" * 16, 0, 11, baseline_keys(), AUTHOR),
        write_facts_part(b"s" * 16, 1, 11, FACTS, AUTHOR),
    ]
    return {"manifest": write_baseline(baseline(parts), AUTHOR).hex(), "parts": [part.hex() for part in parts]}


def vectors() -> dict[str, Any]:
    segments = {}
    for suite, key in KEYS.items():
        parcel = Parcel(SECRET, CLIENT, GROUP, key.public)
        small = bytes(parcel.seal(5, plaintexts()[0]))
        long = bytes(parcel.seal(6, LONG))
        start = len(small) - len(plaintexts()[0]) - 16
        segments[suite.label] = {
            "small": small.hex(),
            "long_start": long[:start].hex(),
            "long_sha256": sha256(long).hexdigest(),
        }
    enrolment = request_enrolment(
        ticket(), CLIENT, CLIENT_SEALING.public, name="alice", facts={"host": "alice"}, issued_s=5
    )
    answer = write_receipt(
        receipt(), TIER, client=CLIENT.public, sealing=CLIENT_SEALING.public, group=GROUP, issued_s=1
    )
    return {
        "segments": segments,
        "plaintexts": [plaintext.hex() for plaintext in plaintexts()],
        "version_record": {name: value.hex() for name, value in asdict(signed_record()).items()},
        "attestation": {name: value.hex() for name, value in asdict(signed_attestation()).items()},
        "ticket": write_ticket(ticket(), TIER, issued_s=1),
        "enrolment": enrolment.hex(),
        "head": write_head(head(), CLIENT, group=GROUP, issued_s=1).hex(),
        "receipt": answer.hex(),
        "room": write_room(room(), TIER, group=GROUP).hex(),
        "plain_room": write_plain_room(room()).hex(),
        "standing": write_standing(
            standing(), TIER, client=CLIENT.public, sealing=CLIENT_SEALING.public, group=GROUP, issued_s=1
        ).hex(),
        **told_vectors(),
        "baseline": baseline_vectors(),
        "keys": tier_keys_vector().hex(),
        "folder": folder_id(CLIENT.public, GROUP),
        "chunker": CHUNKER.hex(),
        "client_key": CLIENT.public.text,
        "client_fingerprint": CLIENT.public.fingerprint.hex(),
        "sealing_keys": {suite.label: key.public.text for suite, key in KEYS.items()},
    }


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))
