"""Version records and attestations: nobody but the signer writes them, field by field."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import AuthenticationError, FormatError, IntegrityError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.versions import SnapshotSummary
from cdr_plugin.parcel.attestation import (
    Attestation,
    SignedAttestation,
    sign_attestation,
    verify_attestation,
)
from cdr_plugin.parcel.blobrefs import pack_refs, unpack_refs
from cdr_plugin.parcel.limits import MAX_ATTESTED_BLOBS, MAX_PATHS
from cdr_plugin.parcel.version import (
    SignedVersionRecord,
    VersionRecord,
    chunker_id,
    sign_version_record,
    verify_version_record,
)
from tests.parcel.parties import CLIENT, GROUP, STRANGER, TIER, version_record

SUMMARY = SnapshotSummary(backup_start="2026-11-22T19:00:00Z", backup_end="2026-11-22T19:00:01Z", files_new=3)


def verify(signed: SignedVersionRecord, **change: Any) -> VersionRecord:
    fields: dict[str, Any] = {"client": CLIENT.public, "group": GROUP} | change
    return verify_version_record(signed, **fields)


@pytest.mark.parametrize("summary", [None, SUMMARY])
@pytest.mark.parametrize("previous", [b"", b"p" * 32])
def test_a_record_comes_back_as_it_was_signed(summary: SnapshotSummary | None, previous: bytes) -> None:
    record = version_record(summary=summary, previous=previous)
    signed = sign_version_record(record, CLIENT)
    assert verify(signed) == record
    assert len(signed.hash) == 32


texts = st.text(max_size=20)


@given(
    st.lists(st.text(min_size=1, max_size=20), max_size=4),
    st.lists(texts, max_size=3),
    texts,
    st.integers(1, 2**63 - 1),
)
def test_any_text_of_a_snapshot_survives(paths: list[str], tags: list[str], host: str, number: int) -> None:
    record = version_record(paths=paths, tags=tags, hostname=host, number=number)
    try:
        signed = sign_version_record(record, CLIENT)
    except FormatError:
        assert any("\ud800" <= char <= "\udfff" for char in "".join((*paths, *tags, host)))
    else:
        assert verify(signed) == record


CHANGES: dict[str, Any] = {
    "group": "sales",
    "chunker": b"\x55" * 32,
    "client": STRANGER.public.fingerprint,
    "number": 8,
    "previous": b"\x66" * 32,
    "tree": b"\x77" * 32,
    "time": "2026-11-22T19:00:01Z",
    "paths": ["/"],
    "hostname": "other",
    "username": "root",
    "uid": 0,
    "gid": 0,
    "excludes": [],
    "tags": [],
    "program_version": "x",
    "summary": SUMMARY,
}


def test_every_field_is_listed_in_the_forgery_test() -> None:
    assert set(CHANGES) | {"format"} == set(VersionRecord.__struct_fields__)


@pytest.mark.parametrize("field", list(CHANGES))
def test_a_changed_field_does_not_pass_under_the_old_signature(field: str) -> None:
    good = sign_version_record(version_record(), CLIENT)
    changed = msgspec.structs.replace(version_record(), **{field: CHANGES[field]})
    body = msgspec.msgpack.encode(changed)
    assert body != good.body
    with pytest.raises(AuthenticationError, match="does not verify"):
        verify(SignedVersionRecord(body, good.signature))


def test_every_flipped_bit_of_body_or_signature_is_refused() -> None:
    good = sign_version_record(version_record(), CLIENT)
    for position in range(len(good.body) * 8):
        bad = bytearray(good.body)
        bad[position // 8] ^= 1 << position % 8
        with pytest.raises(AuthenticationError):
            verify(SignedVersionRecord(bytes(bad), good.signature))
    for position in range(64 * 8):
        bad = bytearray(good.signature)
        bad[position // 8] ^= 1 << position % 8
        with pytest.raises(AuthenticationError):
            verify(SignedVersionRecord(good.body, bytes(bad)))


def test_a_record_of_another_client_or_group_is_refused() -> None:
    good = sign_version_record(version_record(), CLIENT)
    with pytest.raises(AuthenticationError, match="does not verify"):
        verify(good, client=STRANGER.public)
    with pytest.raises(AuthenticationError, match="another group than sales"):
        verify(good, group="sales")
    with pytest.raises(FormatError, match="another client"):
        sign_version_record(version_record(), STRANGER)


def signed_raw(body: bytes) -> SignedVersionRecord:
    return SignedVersionRecord(body, CLIENT.sign(b"cdr/1 version record", body))


def test_a_client_cannot_sign_for_another_client() -> None:
    body = msgspec.msgpack.encode(version_record(client=STRANGER.public.fingerprint))
    with pytest.raises(AuthenticationError, match="names another client"):
        verify(signed_raw(body))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("chunker", b"short"),
        ("client", b""),
        ("number", 0),
        ("number", -1),
        ("number", 1 << 63),
        ("number", True),
        ("previous", b"x"),
        ("tree", b"x" * 33),
        ("time", "yesterday"),
        ("time", "2026-02-30T00:00:00Z"),
        ("paths", [""]),
        ("paths", ["x" * 20_000]),
        ("paths", [b"x"]),
        ("paths", ["x"] * (MAX_PATHS + 1)),
        ("hostname", "x" * 256),
        ("uid", -1),
        ("gid", 1 << 32),
        ("tags", ["x"] * 2000),
        ("summary", {"files_new": 1}),
        ("summary", msgspec.structs.replace(SUMMARY, files_new=-1)),
        ("summary", msgspec.structs.replace(SUMMARY, data_added=1 << 63)),
        ("summary", msgspec.structs.replace(SUMMARY, backup_end="")),
        ("more", 1),
    ],
)
def test_a_signed_record_that_breaks_a_limit_is_a_format_error(field: str, value: Any) -> None:
    body = msgspec.msgpack.encode(msgspec.structs.asdict(version_record()) | {field: value})
    with pytest.raises(FormatError, match=r"version record|RFC 3339|previous"):
        verify(signed_raw(body))


@given(st.binary(max_size=100))
def test_signed_nonsense_is_a_format_error(body: bytes) -> None:
    with pytest.raises(FormatError):
        verify(signed_raw(body))


def test_what_readers_would_refuse_is_not_written() -> None:
    with pytest.raises(FormatError):
        sign_version_record(version_record(time="now"), CLIENT)
    with pytest.raises(FormatError, match="encoded"):
        sign_version_record(version_record(hostname="\udcff"), CLIENT)


def test_chunker_ids_do_not_depend_on_the_order_of_parameters() -> None:
    assert chunker_id({"a": 1, "b": "x"}) == chunker_id({"b": "x", "a": 1})
    assert chunker_id({"a": 1}) != chunker_id({"a": "1"})


# --- attestations

REFS = [(BlobType.DATA, BlobId(b"a" * 32)), (BlobType.TREE, BlobId(b"b" * 32))]
SAID = Attestation(GROUP, b"t" * 32, 5, 1000, CLIENT.public.fingerprint, REFS)


def attested(signed: SignedAttestation, **change: Any) -> Attestation:
    fields: dict[str, Any] = {
        "tier": TIER.public,
        "group": GROUP,
        "addressee": b"t" * 32,
        "now_s": 500,
        "lowest_serial": 5,
    } | change
    return verify_attestation(signed, **fields)


def test_an_attestation_comes_back_as_it_was_signed() -> None:
    assert attested(sign_attestation(SAID, TIER)) == SAID


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tier": STRANGER.public}, "does not verify"),
        ({"group": "sales"}, "another group"),
        ({"addressee": b"u" * 32}, "another tier"),
        ({"lowest_serial": 6}, "replayed"),
        ({"now_s": 1001}, "expired"),
    ],
)
def test_an_attestation_that_does_not_hold_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(AuthenticationError, match=reason):
        attested(sign_attestation(SAID, TIER), **change)


def test_every_flipped_byte_of_an_attestation_is_refused() -> None:
    good = sign_attestation(SAID, TIER)
    for position in range(len(good.body)):
        bad = bytearray(good.body)
        bad[position] ^= 1
        with pytest.raises(IntegrityError):
            attested(SignedAttestation(bytes(bad), good.signature))


def test_an_attestation_holds_as_many_blobs_as_its_limit_says() -> None:
    many = [REFS[0]] * MAX_ATTESTED_BLOBS
    most = Attestation(GROUP, b"", 5, 1000, bytes(32), many)
    assert len(attested(sign_attestation(most, TIER)).blobs) == MAX_ATTESTED_BLOBS
    with pytest.raises(FormatError):
        sign_attestation(Attestation(GROUP, b"", 5, 1000, bytes(32), [*many, REFS[0]]), TIER)


@given(st.lists(st.tuples(st.sampled_from(BlobType), st.binary(min_size=32, max_size=32).map(BlobId)), max_size=5))
def test_blob_lists_survive_packing(refs: list[tuple[BlobType, BlobId]]) -> None:
    assert unpack_refs(pack_refs(refs), 5, "list") == refs


@pytest.mark.parametrize("packed", [b"x", bytes(34), b"\x02" + bytes(32), bytes(33 * 6)])
def test_bytes_that_are_no_blob_list_are_refused(packed: bytes) -> None:
    with pytest.raises(FormatError, match="list:"):
        unpack_refs(packed, 5, "list")
