"""Segments: only the right receiver opens them, and only exactly as they were sealed."""

import tracemalloc
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.errors import AuthenticationError, FormatError, IntegrityError, UnknownVersionError
from cdr_plugin.identity.keys import KemSuite, SealingKey, VerifyKey
from cdr_plugin.identity.wire import group_hash
from cdr_plugin.parcel.limits import (
    CHUNK_BYTES,
    HEADER_BYTES,
    MAX_SEGMENT_OBJECT_BYTES,
    MAX_SEGMENT_PLAINTEXT_BYTES,
    SEGMENT_PREFIX_BYTES,
    TAG_BYTES,
)
from cdr_plugin.parcel.segment import (
    OpenSegment,
    Parcel,
    ParcelSecret,
    _seal_info,
    open_segment,
    read_prefix,
    reopen_own_segment,
    segment_object_bytes,
)
from tests.parcel.parties import CLIENT, GROUP, OTHER_SEALING, STRANGER, TIER_SEALING, anybody, parcel

BODY = SEGMENT_PREFIX_BYTES + HEADER_BYTES + KemSuite.X25519.overhead
SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES
SIZES = (0, 1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5)


@cache
def sealed(size: int) -> tuple[Parcel, bytes, bytes]:
    """A parcel, a plaintext whose chunks all differ, and its segment 5."""
    made = parcel()
    plaintext = b"".join(
        bytes(((i // CHUNK_BYTES) + 1,)) * min(CHUNK_BYTES, size - i) for i in range(0, size, CHUNK_BYTES)
    )
    return made, plaintext, bytes(made.seal(5, plaintext))


def reading(data: bytes, made: Parcel, **change: Any) -> OpenSegment:
    fields: dict[str, Any] = {
        "group": GROUP,
        "keys": [TIER_SEALING],
        "accept": anybody,
        "parcel_id": made.id,
        "index": 5,
    } | change
    return open_segment(data, **fields)


# --- round trips


@pytest.mark.parametrize("size", SIZES)
def test_a_segment_opens_to_what_was_sealed(size: int) -> None:
    made, plaintext, data = sealed(size)
    opened = reading(data, made)
    assert opened.plaintext == plaintext
    assert opened.sender == CLIENT.public
    assert (opened.prefix.parcel_id, opened.prefix.index) == (made.id, 5)
    assert len(data) == segment_object_bytes(size, KemSuite.X25519)


@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1))
def test_any_bytes_come_back_under_any_index(plaintext: bytes, index: int) -> None:
    made = parcel()
    data = made.seal(index, plaintext)
    assert reading(bytes(data), made, index=index).plaintext == plaintext
    assert reopen_own_segment(data, made.secret, index) == plaintext


def test_the_hybrid_suite_seals_and_opens() -> None:
    key = SealingKey.generate(KemSuite.MLKEM768_X25519)
    made = parcel(receiver=key)
    data = bytes(made.seal(5, b"plain"))
    assert read_prefix(data).suite is KemSuite.MLKEM768_X25519
    assert reading(data, made, keys=[key]).plaintext == b"plain"
    for position in range(BODY + 1088):
        bad = bytearray(data)
        bad[position] ^= 1
        with pytest.raises(IntegrityError):
            reading(bytes(bad), made, keys=[key])


def test_older_keys_of_the_group_still_open() -> None:
    made, plaintext, data = sealed(100)
    assert reading(data, made, keys=[OTHER_SEALING, TIER_SEALING]).plaintext == plaintext


def test_the_same_plaintext_never_gives_the_same_object_twice() -> None:
    made = parcel()
    assert made.seal(5, b"x" * 100)[BODY:] != made.seal(5, b"x" * 100)[BODY:]


def test_buffers_of_all_kinds_are_sealed_alike() -> None:
    made = parcel()
    for plaintext in (b"abc", bytearray(b"abc"), memoryview(b"xabcx")[1:4]):
        assert reading(bytes(made.seal(5, plaintext)), made).plaintext == b"abc"


def test_a_client_reads_its_own_spool_without_the_receivers_key() -> None:
    made, plaintext, data = sealed(3 * CHUNK_BYTES + 5)
    secret = ParcelSecret.from_bytes(made.secret.to_bytes())
    assert reopen_own_segment(data, secret, 5) == plaintext
    assert made.secret.key.hex() not in repr(made.secret) and repr(made.secret.key) not in repr(made.secret)
    with pytest.raises(FormatError):
        ParcelSecret.from_bytes(b"short")
    with pytest.raises(AuthenticationError, match="wrong name"):
        reopen_own_segment(data, secret, 6)
    for position in (0, 2, 4, 23, 30, 60, BODY - 1, BODY, len(data) - 1):
        bad = bytearray(data)
        bad[position] ^= 1
        with pytest.raises(IntegrityError):
            reopen_own_segment(bad, secret, 5)


# --- damage


def test_every_flipped_bit_of_a_small_segment_is_refused_and_the_segment_named() -> None:
    made, _, data = sealed(1)
    for position in range(len(data) * 8):
        bad = bytearray(data)
        bad[position // 8] ^= 1 << position % 8
        with pytest.raises((AuthenticationError, FormatError), match=f"segment {made.id.hex()[:12]}/00000005"):
            reading(bytes(bad), made)


@pytest.mark.parametrize("position", [56, BODY - 1, BODY, BODY + SEALED_CHUNK - 1, BODY + SEALED_CHUNK, -TAG_BYTES, -1])
def test_a_flipped_byte_in_any_region_of_a_big_segment_is_refused(position: int) -> None:
    made, _, data = sealed(3 * CHUNK_BYTES + 5)
    bad = bytearray(data)
    bad[position] ^= 0x80
    with pytest.raises(AuthenticationError):
        reading(bytes(bad), made)


def test_a_clear_prefix_changed_together_with_the_name_is_refused() -> None:
    made, _, data = sealed(1)
    other_id = bytes(16)
    with pytest.raises(AuthenticationError, match="opens it"):
        reading(data[:4] + other_id + data[20:], made, parcel_id=other_id)
    with pytest.raises(AuthenticationError, match="opens it"):
        reading(data[:20] + (6).to_bytes(4, "big") + data[24:], made, index=6)


@pytest.mark.parametrize("size", [0, 100, CHUNK_BYTES, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
def test_a_segment_cut_anywhere_is_refused(size: int) -> None:
    made, _, data = sealed(size)
    cuts = {
        0,
        1,
        2,
        55,
        56,
        BODY - 1,
        BODY,
        BODY + 15,
        BODY + 16,
        len(data) - 17,
        len(data) - 16,
        len(data) - 1,
    }
    cuts |= {BODY + k * SEALED_CHUNK + d for k in range(1, 4) for d in (-1, 0, 1, 15, 16, 17)}
    for cut in sorted(cut for cut in cuts if 0 <= cut < len(data)):
        with pytest.raises(IntegrityError):
            reading(data[:cut], made)


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 16, b"\0" * 17, b"\0" * SEALED_CHUNK])
@pytest.mark.parametrize("size", [0, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_bytes_behind_the_last_chunk_are_refused(size: int, extra: bytes) -> None:
    made, _, data = sealed(size)
    with pytest.raises(IntegrityError):
        reading(data + extra, made)


def chunks_of(data: bytes) -> tuple[bytes, list[bytes]]:
    return data[:BODY], [data[at : at + SEALED_CHUNK] for at in range(BODY, len(data), SEALED_CHUNK)]


@pytest.mark.parametrize(
    "rearrange",
    [
        lambda c: [c[1], c[0], c[2], c[3]],
        lambda c: [c[0], c[0], c[2], c[3]],
        lambda c: [c[0], c[2], c[3]],
        lambda c: [c[0], c[1], c[1], c[2], c[3]],
        lambda c: [*c, c[3]],
        lambda c: c[:3],
        lambda c: c[:1],
        lambda c: [c[3]],
        lambda c: [c[0], c[1], c[2], c[2]],
    ],
)
def test_chunks_swapped_doubled_dropped_or_cut_off_are_refused(
    rearrange: Callable[[list[bytes]], list[bytes]],
) -> None:
    made, _, data = sealed(4 * CHUNK_BYTES)
    start, chunks = chunks_of(data)
    with pytest.raises(AuthenticationError, match=r"chunk . of"):
        reading(start + b"".join(rearrange(chunks)), made)


def test_chunks_of_a_sibling_segment_do_not_fit_even_with_the_same_index() -> None:
    made, _, data = sealed(100)
    sibling = bytes(made.seal(5, b"y" * 100))
    with pytest.raises(AuthenticationError, match="chunk 1 of 1"):
        reading(data[:BODY] + sibling[BODY:], made)


# --- the wrong segment, sender, receiver, group


def test_a_segment_under_another_name_is_refused() -> None:
    made, _, data = sealed(100)
    with pytest.raises(AuthenticationError, match="wrong name"):
        reading(data, made, index=6)
    with pytest.raises(AuthenticationError, match="wrong name"):
        reading(data, made, parcel_id=bytes(16))


def test_another_receiver_or_group_does_not_open_it() -> None:
    made, _, data = sealed(100)
    changes: tuple[dict[str, Any], ...] = ({"keys": [OTHER_SEALING]}, {"keys": []}, {"group": "sales"})
    for change in changes:
        with pytest.raises(AuthenticationError, match="opens it"):
            reading(data, made, **change)


def test_keys_of_another_suite_are_not_tried() -> None:
    made, _, data = sealed(100)
    with pytest.raises(AuthenticationError, match="opens it"):
        reading(data, made, keys=[SealingKey.generate(KemSuite.MLKEM768_X25519)])


def test_a_sender_that_is_not_accepted_stops_everything_before_a_chunk_is_decrypted() -> None:
    def refuse(key: VerifyKey) -> None:
        raise AuthenticationError(f"unknown {key.fingerprint.hex()[:4]}")

    made, _, data = sealed(100)
    damaged = data[:-1] + bytes((data[-1] ^ 1,))
    with pytest.raises(AuthenticationError, match="unknown"):
        reading(damaged, made, accept=refuse)


def test_the_sender_is_judged_only_after_its_signature_has_verified() -> None:
    made, _, data = sealed(100)
    asked: list[VerifyKey] = []
    header = bytearray(TIER_SEALING.open(data[SEGMENT_PREFIX_BYTES:BODY], info_of(data)))
    header[-1] ^= 1
    with pytest.raises(AuthenticationError, match="does not verify"):
        reading(with_header(data, bytes(header)), made, accept=asked.append)
    assert asked == []


def info_of(data: bytes, group: str = GROUP) -> bytes:
    return _seal_info(data[:SEGMENT_PREFIX_BYTES], group_hash(group))


def with_header(data: bytes, header: bytes, receiver: SealingKey = TIER_SEALING, group: str = GROUP) -> bytes:
    return data[:SEGMENT_PREFIX_BYTES] + receiver.public.seal(header, info_of(data, group)) + data[BODY:]


def header_of(data: bytes) -> bytes:
    return TIER_SEALING.open(data[SEGMENT_PREFIX_BYTES:BODY], info_of(data))


def test_a_receiver_cannot_pass_a_clients_header_on_to_another_receiver() -> None:
    made, _, data = sealed(100)
    with pytest.raises(AuthenticationError, match="does not verify"):
        reading(with_header(data, header_of(data), OTHER_SEALING), made, keys=[OTHER_SEALING])


def test_a_header_resealed_into_another_group_is_refused() -> None:
    made, _, data = sealed(100)
    with pytest.raises(AuthenticationError, match="another group"):
        reading(with_header(data, header_of(data), group="sales"), made, group="sales")
    forged = header_of(data)[:64] + group_hash("sales") + header_of(data)[96:]
    with pytest.raises(AuthenticationError, match="does not verify"):
        reading(with_header(data, forged, group="sales"), made, group="sales")


def test_a_header_moved_to_another_parcel_is_refused() -> None:
    _, _, data = sealed(100)
    other = parcel()
    foreign = bytes(other.seal(5, b"z"))
    with pytest.raises(AuthenticationError, match="does not verify"):
        reading(with_header(foreign, header_of(data)), other)


@pytest.mark.parametrize("at", [0, 32])
def test_a_header_with_another_parcel_key_or_sender_is_refused(at: int) -> None:
    made, _, data = sealed(100)
    forged = bytearray(header_of(data))
    forged[at : at + 32] = STRANGER.public.raw
    with pytest.raises(AuthenticationError, match="does not verify"):
        reading(with_header(data, bytes(forged)), made)


def test_a_header_without_sense_is_refused() -> None:
    made, _, data = sealed(100)
    for header in (bytes(HEADER_BYTES), b"\xff" * HEADER_BYTES):
        with pytest.raises(IntegrityError):
            reading(with_header(data, header), made)


# --- limits, versions, memory


def test_other_versions_kinds_and_suites_are_left_alone() -> None:
    made, _, data = sealed(100)
    for position, value in ((0, 2), (0, 0), (1, 9), (2, 9)):
        bad = bytearray(data)
        bad[position] = value
        with pytest.raises(UnknownVersionError, match="left where it is"):
            reading(bytes(bad), made)


def test_objects_and_plaintexts_above_the_limit_are_refused_before_any_crypto() -> None:
    with pytest.raises(FormatError, match="expected"):
        read_prefix(bytes((1, 1)) + bytes(MAX_SEGMENT_OBJECT_BYTES))
    with pytest.raises(FormatError, match="do not fit"):
        parcel().seal(0, bytes(MAX_SEGMENT_PLAINTEXT_BYTES + 1))
    with pytest.raises(FormatError, match="do not fit"):
        parcel().seal(1 << 32, b"")


def test_the_largest_segment_is_below_the_object_limit() -> None:
    for suite in KemSuite:
        assert segment_object_bytes(MAX_SEGMENT_PLAINTEXT_BYTES, suite) <= MAX_SEGMENT_OBJECT_BYTES


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_random_bytes_are_never_a_segment(data: bytes) -> None:
    made, _, good = sealed(100)
    for attempt in (data, good[:SEGMENT_PREFIX_BYTES] + data):
        with pytest.raises(IntegrityError):
            reading(attempt, made)


def test_many_empty_segments_cost_no_memory() -> None:
    made, _, data = sealed(0)
    tracemalloc.start()
    try:
        for _ in range(500):
            reading(data, made)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used < 200_000
