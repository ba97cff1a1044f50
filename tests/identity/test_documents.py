"""Signed documents: each claim is checked, and storage cannot replay, redirect or mix them up."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import AuthenticationError, FormatError, IntegrityError, UnknownVersionError
from cdr_plugin.identity.codec import Count, WireStruct, decode, encode
from cdr_plugin.identity.documents import (
    ANYONE,
    MAX_DOCUMENT_BYTES,
    Document,
    open_document,
    seal_document,
    sign_document,
    unseal_document,
)
from cdr_plugin.identity.keys import KemSuite, SealingKey, SigningKey, VerifyKey

SIGNER = SigningKey(b"\x01" * 32)
READER = SigningKey(b"\x02" * 32).public.fingerprint
SEALING = SealingKey(KemSuite.X25519, b"\x03" * 32)


class Body(WireStruct, frozen=True):
    text: str
    number: Count


def make(**change: Any) -> bytes:
    fields: dict[str, Any] = {
        "kind": "note",
        "signer": SIGNER,
        "group": "legal",
        "addressee": READER,
        "serial": 5,
        "issued_s": 100,
        "expires_s": 200,
        "body": {"text": "hello", "number": 7},
    } | change
    return sign_document(fields.pop("kind"), **fields)


def read(data: bytes, **change: Any) -> Document:
    fields: dict[str, Any] = {
        "kind": "note",
        "signer": SIGNER.public,
        "group": "legal",
        "addressee": READER,
        "now_s": 150,
        "lowest_serial": 5,
    } | change
    return open_document(data, **fields)


def test_a_document_comes_back_with_what_was_signed() -> None:
    document = read(make())
    assert (document.serial, document.issued_s, document.expires_s) == (5, 100, 200)
    assert document.signer == SIGNER.public
    assert document.body_as(Body) == Body(text="hello", number=7)


def test_a_document_for_anyone_passes_for_everybody() -> None:
    assert read(make(addressee=ANYONE)).addressee == ANYONE


@pytest.mark.parametrize(
    ("made", "reading", "reason"),
    [
        ({}, {"kind": "other"}, "is a 'note'"),
        ({}, {"group": "sales"}, "another group than sales"),
        ({}, {"addressee": b"x" * 32}, "addressed to"),
        ({"serial": 4}, {}, "replayed"),
        ({}, {"now_s": 201}, "expired on 1970-01-01"),
        ({}, {"signer": SigningKey(b"\x09" * 32).public}, "signed by"),
    ],
)
def test_a_claim_that_does_not_hold_is_named(made: dict[str, Any], reading: dict[str, Any], reason: str) -> None:
    with pytest.raises(AuthenticationError, match=reason):
        read(make(**made), **reading)


def test_every_flipped_bit_is_refused() -> None:
    good = make()
    for position in range(len(good) * 8):
        bad = bytearray(good)
        bad[position // 8] ^= 1 << position % 8
        with pytest.raises(IntegrityError):
            read(bytes(bad))


def test_every_truncation_and_any_byte_behind_the_end_is_refused() -> None:
    good = make()
    for size in range(len(good)):
        with pytest.raises(IntegrityError):
            read(good[:size])
    with pytest.raises(AuthenticationError):
        read(good + b"\0")


def test_the_judge_of_signers_is_asked_only_after_the_signature_has_verified() -> None:
    asked: list[VerifyKey] = []
    read(make(), signer=asked.append)
    assert asked == [SIGNER.public]
    bad = bytearray(make())
    bad[-1] ^= 1
    with pytest.raises(AuthenticationError):
        read(bytes(bad), signer=asked.append)
    assert len(asked) == 1


def test_a_refusal_by_the_judge_ends_the_reading() -> None:
    def refuse(key: VerifyKey) -> None:
        raise AuthenticationError("revoked")

    with pytest.raises(AuthenticationError, match="revoked"):
        read(make(), signer=refuse)


def test_a_newer_major_version_is_left_alone() -> None:
    with pytest.raises(UnknownVersionError, match="left where it is"):
        read(b"\x02" + make()[1:])


def test_documents_above_the_limit_are_neither_written_nor_read() -> None:
    with pytest.raises(FormatError):
        make(body={"text": "x" * MAX_DOCUMENT_BYTES, "number": 1})
    with pytest.raises(FormatError, match="expected"):
        read(make() + bytes(MAX_DOCUMENT_BYTES))


@pytest.mark.parametrize(
    "body",
    [
        {"text": "x"},
        {"text": "x", "number": -1},
        {"text": 1, "number": 1},
        {"text": "x", "number": 1, "more": 1},
    ],
)
def test_a_body_of_another_shape_is_a_format_error(body: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="body of note"):
        read(make(body=body)).body_as(Body)


def test_a_sealed_document_opens_for_its_receiver_kind_and_group_only() -> None:
    sealed = seal_document(make(), SEALING.public, kind="note", group="legal")
    older = SealingKey.generate(KemSuite.X25519)
    assert unseal_document(sealed, keys=[older, SEALING], kind="note", group="legal") == make()
    changes: tuple[dict[str, Any], ...] = ({"keys": [older]}, {"keys": []}, {"kind": "other"}, {"group": "sales"})
    for change in changes:
        fields: dict[str, Any] = {"keys": [SEALING], "kind": "note", "group": "legal"} | change
        with pytest.raises(AuthenticationError, match="opens it"):
            unseal_document(sealed, **fields)
    for position in range(len(sealed)):
        bad = bytearray(sealed)
        bad[position] ^= 0x40
        with pytest.raises(IntegrityError):
            unseal_document(bytes(bad), keys=[SEALING], kind="note", group="legal")


def test_only_one_encoding_of_a_structure_is_accepted() -> None:
    value = Body(text="x", number=1)
    good = encode(value, "body")
    assert decode(Body, good, "body") == value
    swapped = msgspec.msgpack.encode({"number": 1, "text": "x"})
    doubled = b"\x83" + good[1:] + b"\xa6number\x01"
    wide = good[:-1] + b"\xcc\x01"
    for other in (swapped, doubled, wide, good + b"\0", good[:-1], b"", b"\xc1"):
        with pytest.raises(FormatError, match="body"):
            decode(Body, other, "body")


@given(st.binary(max_size=200))
def test_random_bytes_are_never_a_document(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        read(data)
    with pytest.raises(IntegrityError):
        unseal_document(data, keys=[SEALING], kind="note", group="legal")


@given(st.binary(max_size=100))
def test_random_bytes_decode_to_nothing_else_than_what_encodes_to_them(data: bytes) -> None:
    try:
        value = decode(Body, data, "body")
    except FormatError:
        return
    assert encode(value, "body") == data
